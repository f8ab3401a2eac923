"""`hydra/sweeper=search` as it is typed, on a train.py without torch: resumed, limited, refused."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

SWEEP = """# @package _global_
defaults:
  - override /hydra/sweeper: search
hydra:
  sweeper:
    name: rates
    num_trials: 8
    space:
      lr: {range: [0.0, 1.0]}
    start: [{lr: 0.5}]
"""
# Fails where the rate is in `fails`, tells the test that it runs, and waits where it is told to.
TRAIN_LOCALLY = """
import json, pathlib, time

def train(cfg):
    run = pathlib.Path(cfg.run_dir)
    with open(cfg.until, "a") as runs:
        runs.write(f"{run.name} {cfg.lr}\\n")
    if run.name == cfg.fail:
        raise KeyError("no such backbone")
    if run.name == cfg.texts[0] and not (run.parent / "waited").exists():
        (run.parent / "waited").touch()
        (run / "cut").touch()
        time.sleep(60)
    assert not (run / "cut").exists(), "what a cut trial left is taken away"
    (run / "metrics.json").write_text(json.dumps({"valid/accuracy": 1 - (cfg.lr - 0.3) ** 2}))
    return 1 - (cfg.lr - 0.3) ** 2
"""


@pytest.fixture
def searched(tiny):
    (tiny.folder / "conf" / "sweep").mkdir()
    (tiny.folder / "conf" / "sweep" / "rates.yaml").write_text(SWEEP)
    config = tiny.folder / "conf" / "train.yaml"
    config.write_text(config.read_text().replace("  - optional experiment: null", "  - sweep: null"))
    (tiny.folder / "src-local" / "tiny.py").write_text(TRAIN_LOCALLY)
    return tiny


FOLDER = "runs/tiny/sweep-rates"
WORDS = ("-m", "sweep=rates", "until=begun.txt", "texts=[none]")


def begun(tiny) -> list[tuple[str, float]]:
    lines = (tiny.folder / "begun.txt").read_text().splitlines()
    return [(line.split()[0], float(line.split()[1])) for line in lines]


def last_line(done: subprocess.CompletedProcess) -> dict:
    return json.loads(done.stdout.splitlines()[-1])


def wait_for(path: pathlib.Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


def test_killed_and_typed_again_it_goes_on(searched):
    words = (*WORDS[:-1], "texts=['4']", "fail='2'")
    cut = searched.start(*words)
    wait_for(searched.folder / FOLDER / "waited")
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    journal = searched.folder / FOLDER / "journal.log"
    with journal.open("ab") as file:  # and a line was cut, too
        file.write(b'{"op_code":8,"worker_')

    done = searched.type(*words)
    assert done.returncode == 0, done.stderr
    assert "the last line was cut off by a kill" in done.stderr
    summary = last_line(done)
    assert (summary["trials"], summary["failed"], summary["complete"]) == (8, 1, 7)
    runs = begun(searched)
    assert [number for number, _ in runs] == ["0", "1", "2", "3", "4", "4", "5", "6", "7"], "only the cut one twice"
    assert runs[4] == runs[5], "with the same values"
    best = max(((1 - (lr - 0.3) ** 2, number) for number, lr in runs if number != "2"))
    assert summary["best"]["score"] == best[0] and summary["best"]["trial"] == int(best[1])
    assert "Trial 2 failed: KeyError: 'no such backbone'" in done.stdout + cut_output(searched)

    again = searched.type(*words)
    assert last_line(again)["trials"] == 8 and len(begun(searched)) == 9, "nothing is left to do"
    more = searched.type(*words, "hydra.sweeper.num_trials=9")
    assert last_line(more)["trials"] == 9 and len(begun(searched)) == 10


def cut_output(tiny) -> str:
    """What the killed search had written into its journal: its own output may have been lost in the pipe."""
    text = (tiny.folder / FOLDER / "journal.log").read_text()
    return "Trial 2 failed: KeyError: 'no such backbone'" if "no such backbone" in text else ""


def test_a_trial_that_ended_while_nobody_looked_is_not_done_again(searched):
    words = (*WORDS[:-1], "texts=['1']", "hydra.sweeper.num_trials=3")
    cut = searched.start(*words)
    wait_for(searched.folder / FOLDER / "waited")
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    (searched.folder / FOLDER / "1" / "metrics.json").write_text(json.dumps({"valid/accuracy": 0.987}))
    done = searched.type(*words)
    assert [number for number, _ in begun(searched)] == ["0", "1", "2"]
    assert "Trial 1 complete: valid/accuracy 0.9870" in done.stdout


def test_a_seed_makes_a_search_repeatable_across_an_interruption(searched):
    searched.type(*WORDS)
    whole = begun(searched)
    (searched.folder / "begun.txt").unlink()
    words = (*WORDS[:-1], "texts=['6']", "hydra.sweep.dir=runs/other")
    cut = searched.start(*words)
    wait_for(searched.folder / "runs" / "other" / "waited")
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    searched.type(*words)
    parts = begun(searched)
    assert [*dict.fromkeys(parts)] == whole and len(parts) == 9
    (searched.folder / "begun.txt").unlink()
    searched.type(*WORDS, "hydra.sweep.dir=runs/third", "hydra.sweeper.seed=1")
    assert begun(searched)[1:] != whole[1:], "another seed, other trials"
    assert begun(searched)[0] == whole[0] == ("0", 0.5), "the known good point comes first"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["lr=interval(0.1,0.9)"], "lr was 0.0 to 1.0, is 0.1 to 0.9"),
        (["optimized_metric=valid/mae"], "optimized_metric was valid/accuracy, is valid/mae"),
        (["steps=3"], "steps was not there, is 3"),
    ],
)
def test_another_search_in_the_folder_is_refused(searched, words, named):
    searched.type(*WORDS, "hydra.sweeper.num_trials=1")
    refused = searched.type(*WORDS, *words)
    assert refused.returncode == 1 and len(begun(searched)) == 1
    assert named in refused.stderr and "hydra.sweeper.name=<new>" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_two_searches_at_once_in_a_folder_are_refused(searched):
    words = (*WORDS[:-1], "texts=['0']")
    first = searched.start(*words)
    wait_for(searched.folder / FOLDER / "waited")
    second = searched.type(*words)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.returncode == 1
    assert f"Another process is searching in {FOLDER}" in second.stderr


def test_ctrl_c_says_what_is_kept(searched):
    words = (*WORDS[:-1], "texts=['1']")
    search = searched.start(*words)
    wait_for(searched.folder / FOLDER / "waited")
    search.send_signal(signal.SIGINT)
    _, errors = search.communicate(timeout=60)
    assert search.returncode == 130
    told = errors.strip().splitlines()[-1]
    assert told.startswith(f"Stopped by Ctrl-C. 1 of 8 trials are kept in {FOLDER}. To go on, type: ")
    assert "sweep=rates" in told and "Traceback" not in errors


def test_too_many_failures_end_it_after_its_summary(searched):
    config = searched.folder / "src-local" / "tiny.py"
    config.write_text(TRAIN_LOCALLY.replace("run.name == cfg.fail", "int(run.name) > 0"))
    done = searched.type(*WORDS)
    assert done.returncode == 1
    assert len(begun(searched)) == 4, "from the fourth on"
    assert "3 of 4 trials failed, more than hydra.sweeper.max_failed_share=0.5" in done.stderr
    assert last_line(done) | {"best": None} == last_line(done) | {"best": None, "trials": 4, "failed": 3}


def test_what_is_typed_takes_a_keys_place(searched):
    done = searched.type(*WORDS, "lr=0.25", "pause_s=tag(log,interval(0.001,0.1))", "steps=range(1,3)")
    assert done.returncode == 0, done.stderr
    assert {lr for _, lr in begun(searched)} == {0.25}
    assert set(last_line(done)["best"]["values"]) == {"pause_s", "steps"}


def test_a_grid_has_an_end(searched):
    done = searched.type(*WORDS, "lr=0.1,0.2,0.3", "steps=range(1,2)", "hydra.sweeper.sampler=grid")
    assert done.returncode == 0, done.stderr
    assert last_line(done)["trials"] == 6
    endless = searched.type(*WORDS, "hydra.sweeper.sampler=grid", "hydra.sweeper.name=endless")
    assert endless.returncode == 1 and "lr is 0.0 to 1.0, which has no end of values for a grid" in endless.stderr


# Writes where scripts/evaluate.py does.
EVALUATE = """
import json, pathlib, sys
checkpoint = pathlib.Path(sys.argv[1].removeprefix("checkpoint="))
output = checkpoint.parents[1] / "evaluation-test"
output.mkdir()
(output / "metrics.json").write_text(json.dumps({"accuracy": 0.25}))
print("measured", checkpoint)
"""


def test_the_best_trial_is_measured_on_the_test_side_once(searched):
    (searched.folder / "scripts").mkdir()
    (searched.folder / "scripts" / "evaluate.py").write_text(EVALUATE)
    module = searched.folder / "src-local" / "tiny.py"
    kept = '    (run / "checkpoints").mkdir()\n    (run / "checkpoints" / "best.ckpt").touch()\n    (run / "metrics'
    module.write_text(TRAIN_LOCALLY.replace('    (run / "metrics', kept))
    words = (*WORDS, "hydra.sweeper.num_trials=2", "hydra.sweeper.evaluate=true")
    first, again = searched.type(*words), searched.type(*words)
    best = f"{FOLDER}/{last_line(first)['best']['trial']}"
    assert f"measured {searched.folder / best}/checkpoints/best.ckpt" in first.stdout
    assert list((searched.folder / FOLDER).glob("*/evaluation-test")) == [searched.folder / best / "evaluation-test"]
    assert "measured" not in again.stdout and again.returncode == 0

    (searched.folder / "scripts" / "evaluate.py").unlink()
    lost = searched.type(*words, "hydra.sweep.dir=runs/other")
    assert lost.returncode == 1 and last_line(lost)["trials"] == 2, "what was searched is told all the same"
    assert "scripts/evaluate.py ended with 2" in lost.stderr


def test_without_m_the_line_to_type_is_told(searched):
    refused = searched.type("sweep=rates")
    assert refused.returncode == 1
    assert "searches only with -m" in refused.stderr and "-m sweep=rates" in refused.stderr


def test_money_bounds_nothing_where_nothing_is_billed(searched):
    refused = searched.type(*WORDS, "hydra.sweeper.max_usd=5")
    assert refused.returncode == 1 and not (searched.folder / "begun.txt").exists()
    assert "hydra.sweeper.max_usd=5" in refused.stderr and "hydra.sweeper.max_hours=<hours>" in refused.stderr


def test_time_is_a_limit(searched):
    done = searched.type(*WORDS, "hydra.sweeper.max_hours=1e-9")
    assert "hydra.sweeper.max_hours=1e-09 is over" in done.stdout
    assert done.returncode == 1, "no trial has a result"


def test_nothing_heavy_is_imported(searched):
    script = "import sys; sys.argv = ['train.py', '--help']; import runpy\n"
    script += "try: runpy.run_path('train.py', run_name='__main__')\nexcept SystemExit: pass\n"
    script += "print(sorted({'optuna', 'boto3', 'sagemaker', 'pandas', 'torch'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=searched.folder, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]", "at Hydra's start, which imports every plugin"


def test_a_local_search_imports_no_aws(searched):
    config = searched.folder / "src-local" / "tiny.py"
    text = TRAIN_LOCALLY.replace("import json,", "import sys, json,")
    config.write_text(
        text.replace("    return 1", '    print("AWS", {"boto3", "sagemaker"} & set(sys.modules))\n    return 1')
    )
    done = searched.type(*WORDS, "hydra.sweeper.num_trials=2", is_fresh=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AWS set()") == 2


def test_the_dashboard_opens_its_journal(searched):
    searched.type(*WORDS, "hydra.sweeper.num_trials=3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    journal = searched.folder / FOLDER / "journal.log"
    command = str(pathlib.Path(sys.executable).with_name("optuna-dashboard"))
    words = [command, str(journal), "--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref"]
    dashboard = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told = asked(f"http://127.0.0.1:{port}/api/studies")
        (study,) = told["study_summaries"]
        details = asked(f"http://127.0.0.1:{port}/api/studies/{study['study_id']}?after=0")
    finally:
        dashboard.kill()
        dashboard.wait()
    assert study["study_name"] == "search" and study["directions"] == ["maximize"]
    assert [trial["state"] for trial in details["trials"]] == ["Complete"] * 3


def asked(url: str) -> dict:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} never answered")
