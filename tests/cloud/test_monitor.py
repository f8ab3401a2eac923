"""What a log line tells of a job, and how it is shown."""

import pytest
from rich.console import Console

from stocktake.cloud.monitor import FollowedJob
from stocktake.cloud.progress import PlainBoard, log_line, progress, table


@pytest.mark.parametrize(
    ("line", "step", "num_steps", "metrics", "is_all"),
    [
        ("step=12/300 train/loss=1.25", 12, 300, {"train/loss": 1.25}, True),
        ("[default0]:step=3 valid/accuracy=4e-05", 3, None, {"valid/accuracy": 4e-05}, True),
        ("a footstep=3 is none", None, None, {}, False),
        ("loss/x=nothing valid/loss=- valid/rmse=nano", None, None, {}, False),
        ("   ", None, None, {}, True),
    ],
)
def test_a_line_tells_step_and_metrics(line, step, num_steps, metrics, is_all):
    job = FollowedJob("demo")
    assert job.read(line) is is_all
    assert (job.step, job.num_steps, job.metrics) == (step, num_steps, metrics)


def test_a_run_that_diverged_says_so():
    job = FollowedJob("demo")
    job.read("step=1/9 valid/rmse=1.2 valid/accuracy=0.5")
    job.read("step=2/9 valid/rmse=inf valid/accuracy=nan")
    assert progress(job) == "step 2 of 9, valid/accuracy nan"
    assert job.metrics["valid/rmse"] == float("inf")


def test_a_later_line_replaces_the_earlier_and_keeps_the_rest():
    job = FollowedJob("demo")
    job.read("step=1/9 train/loss=2.0")
    job.read("step=2 valid/accuracy=0.5")
    assert (job.step, job.num_steps) == (2, 9)
    assert progress(job) == "step 2 of 9, train/loss 2, valid/accuracy 0.5"


def test_words_are_no_markup_and_torchruns_prefix_is_gone(capsys):
    job = FollowedJob("demo-0", label="texts=[red]x[/red]", secondary_status="Training")
    job.description = {
        "BillableTimeInSeconds": 7,
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2},
    }
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table([job]))
    assert "texts=[red]x[/red]" in captured.get()
    assert "14 s" in captured.get(), "each instance is billed"
    assert log_line(job, "algo-2", "[default0]:[red] hello ") == "[demo-0 algo-2] [red] hello"


def test_without_a_terminal_there_is_one_table_at_the_end(capsys):
    job = FollowedJob("demo", secondary_status="Completed")
    with PlainBoard() as board:
        board.log(job, "algo-1", "hello")
        job.step = 1
        board.show([job])
        job.step = 2
        board.show([job])
    printed = capsys.readouterr().out
    assert "[demo algo-1] hello" in printed
    assert "demo: step 1\n" in printed
    assert "demo: step 2\n" not in printed, "not so soon after the line before"
    assert printed.count("Completed") == 1
