"""A search as one tuning job, through hydra/launcher=rehearsal: all is real but the training, which is tiny."""

import json
import signal
import tarfile
import time

import pytest
import yaml

SEARCH = ("-m", "hydra/sweeper=sagemaker", "hydra/launcher=rehearsal")
QUICK = ("hydra.launcher.poll_s=0.1", "hydra.launcher.upload_interval_s=0.1", "hydra.sweeper.start_by=image")
STRATEGY = "hydra.sweeper.strategy"
LR = "lr=interval(0.1,0.9)"


def own_metrics(tiny) -> dict[int, dict]:
    """Returns what each trial left, read from what stands in for S3, by its number."""
    found = {}
    for packed in (tiny.folder / "runs" / "rehearsal").glob("*/s3/rehearsal/stocktake/*/output/output.tar.gz"):
        number = int(packed.parents[1].name.split("-")[-2]) - 1
        with tarfile.open(packed) as archive:
            names = [name for name in archive.getnames() if name.endswith("metrics.json")]
            if names:
                found[number] = json.load(archive.extractfile(names[0]))
    return found


def last_line(told) -> dict:
    return json.loads(told.stdout.rstrip().splitlines()[-1])


def test_six_trials_two_at_a_time_one_resumed_one_failed(tiny):
    """The issue's show, with a tiny training."""
    faults = "hydra.launcher.faults=[{kind:kill,trial:1,step:3},{kind:internal_error,trial:3,step:1}]"
    told = tiny.type(
        *(*SEARCH, *QUICK, LR, faults, "hydra.sweeper.num_trials=6", "hydra.sweeper.parallel=2"),
        *("compute=spot", "resume=true", "steps=6", "pause_s=0.15", "hydra.sweeper.seed=1"),
        is_fresh=True,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    metrics, line = own_metrics(tiny), last_line(told)
    assert (line["trials"], line["failed"], line["complete"]) == (6, 1, 5)
    assert sorted(metrics) == [0, 1, 2, 4, 5]
    best = max(metrics, key=lambda number: metrics[number]["valid/accuracy"])
    assert (line["best"]["trial"], line["best"]["score"]) == (best, metrics[best]["valid/accuracy"])
    assert line["best"]["values"] == {"lr": metrics[best]["valid/accuracy"]}
    assert json.loads((tiny.folder / line["best"]["folder"] / "metrics.json").read_text()) == metrics[best]
    assert (tiny.folder / line["best"]["folder"] / "checkpoints" / "best.ckpt").read_text() == "best"
    assert metrics[1]["began"] >= 2, "it went on from its own checkpoint"
    assert [metrics[number]["began"] for number in (0, 2, 4, 5)] == [0, 0, 0, 0]
    names = [metrics[number]["environment"]["WANDB_RUN_ID"] for number in sorted(metrics)]
    groups = {one["environment"]["WANDB_RUN_GROUP"] for one in metrics.values()}
    assert len(set(names)) == 5 and groups == {names[0].rpartition("-001-")[0]}
    for metric, name in zip((metrics[number] for number in sorted(metrics)), names, strict=True):
        assert f"/checkpoints/{name}/run" in metric["run_dir"]
    assert {one["environment"]["STOCKTAKE_EXPORT"] for one in metrics.values()} == {"false"}
    assert told.stdout.count("│ Completed │") == 5 and told.stdout.count("│ Failed    │") == 1


HOSTILE = ['it\'s "q"', "a,b=c [d]", "$(touch ran) ; touch ran", "x steps=99", "ü 数 🛒", "back\\slash"]


def test_hostile_choices_arrive_byte_for_byte_through_awss_toolkit(tiny):
    """In a grid, each once; under the toolkit of AWS's images."""
    choices = ",".join("'" + text.replace("'", "\\'") + "'" for text in HOSTILE)
    told = tiny.type(
        *(*SEARCH, *QUICK[:2], f"{STRATEGY}=grid", "hydra.sweeper.parallel=6", "steps=1"),
        f"until=choice({choices})",
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "sagemaker-training-toolkit" in told.stdout
    words = [metrics["words"] for _, metrics in sorted(own_metrics(tiny).items())]
    assert len(words) == len(HOSTILE) and all(len(one) == 2 for one in words)
    assert last_line(told)["trials"] == len(HOSTILE)
    for text, (_, word) in zip(HOSTILE, words, strict=True):
        here = tiny.type("steps=1", word)  # what Hydra reads of it
        assert here.returncode == 0, here.stderr
        config = (tiny.folder / "runs/local/.hydra/config.yaml").read_text()
        assert yaml.safe_load(config)["until"] == text
    assert not list(tiny.folder.rglob("ran"))


def test_a_trials_exception_is_its_reason_and_the_others_count(tiny):
    told = tiny.type(*SEARCH, *QUICK, f"{STRATEGY}=grid", "fail=choice('',resnet5)")
    assert told.returncode == 0, told.stdout + told.stderr
    line = last_line(told)
    assert (line["trials"], line["failed"], line["complete"]) == (2, 1, 1)
    assert line["best"]["values"] == {"fail": ""}
    assert "no such backbone: resnet5" in told.stdout


def test_where_all_trials_fail_the_search_ends_with_an_error(tiny):
    told = tiny.type(*SEARCH, *QUICK, LR, "fail=resnet5", "hydra.sweeper.num_trials=2")
    assert told.returncode == 1
    assert (last_line(told)["failed"], last_line(told)["best"]) == (2, None)
    assert "All training jobs failed" in told.stderr


def test_too_many_failed_trials_end_it_early(tiny):
    words = ("hydra.sweeper.num_trials=40", "hydra.sweeper.parallel=2", "hydra.sweeper.max_failed_share=0.5")
    told = tiny.type(*SEARCH, *QUICK, LR, *words, "fail=resnet5")
    assert told.returncode == 1
    assert "more trials failed than hydra.sweeper.max_failed_share=0.5: stopping it" in told.stdout
    assert 4 <= last_line(told)["trials"] < 12


def test_where_log_and_results_differ_the_results_count(tiny):
    told = tiny.type(*SEARCH, *QUICK, LR, "hydra.sweeper.num_trials=1", "logged=0.05", "steps=1")
    assert told.returncode == 0, told.stdout + told.stderr
    score = own_metrics(tiny)[0]["valid/accuracy"]
    assert last_line(told)["best"]["score"] == score
    assert f"valid/accuracy {score:.6g} by its own results, which count; SageMaker read 0.05 in its log" in told.stdout


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["steps=range(1,9,2)"], ["steps has a step of 2", "{choice: [1, 3, 5, 7, 9]}"]),
        (
            ["+hydra.sweeper.space.resume={choice:[true]}", "+hydra.sweeper.space.lr={range:[0,1],when:{resume:true}}"],
            ["lr is there only with some values of resume", "hydra/sweeper=search"],
        ),
        ([LR, f"{STRATEGY}=grid"], ["lr is a range, and a grid is of choices alone"]),
        ([LR, f"{STRATEGY}=cmaes"], ["hydra.sweeper.strategy takes one of bayesian, random, grid, hyperband"]),
        ([LR, f"{STRATEGY}=hyperband", "hydra.sweeper.early_stopping=true"], ["Hyperband stops trials itself"]),
        ([LR, f"{STRATEGY}=hyperband"], ["hydra.sweeper.max_resource", "is missing"]),
        ([LR, "hydra.sweeper.parallel=30"], ["hydra.sweeper.parallel", "30 at a time of 20 in all"]),
        ([LR, "hydra.sweeper.patience=2"], ["hydra.sweeper.patience takes a whole number of at least 3"]),
        ([LR, "hydra.sweeper.max_hours=0.01"], ["hydra.sweeper.max_hours", "at least 120"]),
        ([LR, "hydra.sweeper.job_name=" + "x" * 33], ["hydra.sweeper.job_name", "at most 32"]),
        ([LR, "hydra.sweeper.warm_start=[a,a]"], ["hydra.sweeper.warm_start", "name each earlier tuning job once"]),
        ([LR, "compute.instance_types=[ml.g5.huge]"], ["compute.instance_types", "'ml.g5.huge' is none of AWS's"]),
        ([LR, "compute.instance_types=[ml.g5.xlarge,ml.g6.xlarge]"], ["a tuning job's trials run on one type"]),
        ([f"until=choice(a,{'x' * 300})"], ["until=xxx", "at most 256 characters"]),
        ([], ["Nothing is searched"]),
    ],
)
def test_what_a_tuning_job_cannot_do_is_refused_before_anything_is_sent(tiny, words, lines):
    told = tiny.type(*SEARCH, *QUICK, *words)
    assert told.returncode == 1
    assert all(line in told.stderr for line in lines), told.stderr
    assert "Traceback" not in told.stderr
    assert not (tiny.folder / "runs" / "rehearsal").exists()


def test_with_another_launcher_it_says_what_to_type(tiny):
    told = tiny.type("-m", "hydra/sweeper=sagemaker", LR)
    assert told.returncode == 1
    for name in ("sagemaker", "rehearsal"):
        assert f"train.py -m hydra/sweeper=sagemaker '{LR}' hydra/launcher={name}" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_dry_run_shows_all_and_sends_nothing(tiny):
    words = ("hydra.sweeper.dry_run=true", "hydra.sweeper.num_trials=30", "hydra.sweeper.parallel=3")
    told = tiny.type(*SEARCH, LR, *words, "compute.max_runtime_s=3600", "hydra.sweeper.max_hours=5", "steps=7")
    assert told.returncode == 0, told.stderr
    assert '"MaxNumberOfTrainingJobs": 30' in told.stdout
    assert '"steps=7"], "searched": {"lr": "number"}' in told.stdout
    assert "30 trials, 3 at a time, at most 15 hours of ml.g5.xlarge in all" in told.stdout
    assert not (tiny.folder / "runs").exists()


def test_early_stopped_trials_are_pruned_ones(tiny):
    told = tiny.type(
        *(
            *SEARCH,
            *QUICK,
            f"{STRATEGY}=grid",
            "hydra.sweeper.early_stopping=true",
            "steps=30",
            "pause_s=0.1",
        ),
        "lr=choice(0.9,0.8,0.7,0.1)",
        "validates=true",
    )
    assert told.returncode == 0, told.stdout + told.stderr
    line = last_line(told)
    assert (line["trials"], line["failed"], line["best"]["values"]) == (4, 0, {"lr": 0.9})
    assert line["pruned"] >= 1


def test_nothing_heavy_is_imported_to_have_it_to_choose_from(tiny):
    """Hydra imports every plugin at each start, also of a local run."""
    told = tiny.type("steps=1", is_fresh=True)
    assert told.returncode == 0, told.stderr
    modules = json.loads((tiny.folder / "runs/local/metrics.json").read_text())["modules"]
    assert "hydra_plugins.stocktake_sagemaker.tuning_options" in modules
    heavy = ("optuna", "boto3", "botocore", "sagemaker", "pandas", "pyarrow", "matplotlib", "sagemaker_training")
    assert not [name for name in modules if name.split(".")[0] in heavy or "._tuning" in name]


def test_ctrl_c_ends_a_rehearsal_and_what_it_started(tiny):
    process = tiny.start(*SEARCH, *QUICK, LR, "steps=2000", "pause_s=0.05")
    deadline = time.monotonic() + 60
    while not list((tiny.folder / "runs" / "rehearsal").glob("*/*/algo-1/checkpoints/*/run")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert "The rehearsal ends with this program, and all that it started." in output
    assert "Traceback" not in errors
