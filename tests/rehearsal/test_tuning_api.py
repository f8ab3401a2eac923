"""boto3 talks to rehearsed tuning jobs, whose trials are a small program that validates as it is told."""

import re
import statistics
import time
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stocktake.cloud.requests import training_job
from stocktake.cloud.tuning_jobs import tuning_job
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.entrypoint import NO_TOOLKIT
from stocktake.rehearsal.local_runner import LocalRunner
from stocktake.rehearsal.mirror import Mirror
from stocktake.rehearsal.s3_sync import Prefix, opener
from stocktake.rehearsal.trial_stopping import lags
from stocktake.tuning.sagemaker_space import parameter_ranges
from stocktake.tuning.search_space import SearchSpace

# Validates `epochs` times; the best is at lr=0.01, and bad=true fails.
PROGRAM = """
import json, math, os, pathlib, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
given = json.loads((base / "input/config/hyperparameters.json").read_text())
kept = base / "checkpoints" / os.environ["TRAINING_JOB_NAME"] / "epoch.ckpt"
kept.parent.mkdir(parents=True, exist_ok=True)
if given.get("bad") == "true":
    (base / "output/failure").write_text("ValueError: bad")
    sys.exit(1)
began = int(kept.read_text()) if kept.exists() else 0
for epoch in range(began, int(os.environ["EPOCHS"])):
    kept.write_text(str(epoch + 1))
    score = 1 - abs(math.log10(float(given["lr"])) + 2) / 4
    print(f"step={epoch + 1} valid/accuracy={score} objective={score}", flush=True)
    time.sleep(float(os.environ["PAUSE_S"]))
(base / "output/data/began.txt").write_text(str(began))
"""
SPACE = {"lr": {"range": [1e-5, 1.0], "log": True}}


@contextmanager
def rehearsed(tmp_path, faults=()):
    code = tmp_path / "s3" / "bins" / "code"
    code.mkdir(parents=True)
    (code / "container.py").write_text(PROGRAM)
    (tmp_path / "s3" / "bins" / "config").mkdir()
    (tmp_path / "s3" / "bins" / "config" / "overrides.json").write_text("{}")
    with (
        LocalRunner(tmp_path, faults, s3_folder=tmp_path / "s3", grace_s=5, upload_interval_s=0.05) as runner,
        RehearsalServer(runner, faults=runner.faults) as server,
    ):
        yield server.client("sagemaker"), server


def request(name: str = "tune", space: Any = None, epochs: int = 2, pause_s: float = 0.0, spot=False, **values: Any):
    trial = training_job(
        "trial",
        "arn:aws:iam::123456789012:role/Stocktake",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake:1",
        *(f"s3://bins/{folder}" for folder in ("code", "config", "jobs")),
        instance_types=["ml.m5.large"],
        environment={"EPOCHS": str(epochs), "PAUSE_S": str(pause_s)},
        spot=spot,
        checkpoint_url="s3://bins/checkpoints" if spot else None,
    )
    ranges = parameter_ranges(SearchSpace.of(space or SPACE))
    values = {"start": "image", "num_trials": 4, "parallel": 2, "seed": 1, "metric": "valid/accuracy"} | values
    return tuning_job(name, trial, ranges, better="higher", **values)


def ended(client, name: str = "tune") -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if described["HyperParameterTuningJobStatus"] not in ("InProgress", "Stopping"):
            return described
        assert time.monotonic() < deadline, described
        time.sleep(0.1)


def trials(client, name: str = "tune", **which: Any) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    asked = {"HyperParameterTuningJobName": name, "SortOrder": "Ascending", "PaginationConfig": {"PageSize": 3}} | which
    return [one for page in pages.paginate(**asked) for one in page["TrainingJobSummaries"]]


def refusal(call, **arguments) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    return raised.value.response["Error"]["Code"], raised.value.response["Error"]["Message"]


def test_trials_run_some_at_a_time_and_the_best_is_named(tmp_path):
    with rehearsed(tmp_path) as (client, server):
        created = client.create_hyper_parameter_tuning_job(**request(pause_s=0.3))
        assert created["HyperParameterTuningJobArn"].endswith(":hyper-parameter-tuning-job/tune")
        most = 0
        while (described := client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune"))[
            "HyperParameterTuningJobStatus"
        ] == "InProgress":
            most = max(most, described["TrainingJobStatusCounters"]["InProgress"])
            time.sleep(0.05)
        assert most == 2
        seen = trials(client)
        assert [re.sub("[0-9a-f]{8}$", "*", one["TrainingJobName"]) for one in seen] == [
            f"tune-00{number}-*" for number in (1, 2, 3, 4)
        ]
        assert described["HyperParameterTuningJobStatus"] == "Completed"
        assert described["TrainingJobStatusCounters"] | {"InProgress": 0} == {
            **dict.fromkeys(("InProgress", "RetryableError", "NonRetryableError", "Stopped"), 0),
            "Completed": 4,
        }
        assert described["ObjectiveStatusCounters"] == {"Succeeded": 4, "Pending": 0, "Failed": 0}
        scores = {one["TrainingJobName"]: one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for one in seen}
        best = described["BestTrainingJob"]
        assert best["TrainingJobName"] == max(scores, key=lambda name: scores[name])
        assert best["FinalHyperParameterTuningJobObjectiveMetric"]["MetricName"] == "best/valid/accuracy"
        for job in server.jobs.all():
            given = job.request["HyperParameters"]
            assert given["_tuning_objective_metric"] == "best/valid/accuracy"
            assert 1e-5 <= float(given["lr"]) <= 1.0
        assert described["TrainingJobDefinition"]["StaticHyperParameters"] == {
            "_tuning_objective_metric": "best/valid/accuracy"
        }
        (one,) = client.list_hyper_parameter_tuning_jobs(NameContains="tun")["HyperParameterTuningJobSummaries"]
        assert (one["HyperParameterTuningJobName"], one["Strategy"]) == ("tune", "Bayesian")


def test_a_trial_that_fails_ends_nothing_else(tmp_path):
    space = SPACE | {"bad": {"choice": [True, False]}}
    with rehearsed(tmp_path, [{"kind": "internal_error", "trial": 0, "step": 1}]) as (client, _):
        client.create_hyper_parameter_tuning_job(**request(space=space, num_trials=8, pause_s=0.2, strategy="random"))
        described = ended(client)
        seen = trials(client)
    bad = sum(one["TunedHyperParameters"]["bad"] == "true" for one in seen[1:])
    assert 0 < bad < 7
    first = seen[0]["TunedHyperParameters"]["bad"] == "false"
    counters = described["TrainingJobStatusCounters"]
    assert (counters["RetryableError"], counters["NonRetryableError"]) == (int(first), bad + (not first))
    assert counters["Completed"] == 7 - bad
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    failed = [one for one in seen if one["TrainingJobStatus"] == "Failed"]
    assert any(one["FailureReason"].startswith("AlgorithmError: ValueError: bad") for one in failed)
    assert all("FinalHyperParameterTuningJobObjectiveMetric" not in one for one in failed)


def test_one_trial_is_interrupted_and_goes_on_from_its_own_checkpoint(tmp_path):
    with rehearsed(tmp_path, [{"kind": "kill", "trial": 1}]) as (client, server):
        client.create_hyper_parameter_tuning_job(**request(spot=True, epochs=3, pause_s=0.5, num_trials=3))
        assert ended(client)["TrainingJobStatusCounters"]["Completed"] == 3
        jobs = {job.trial: job for job in server.jobs.all()}
    assert [len(jobs[number].attempts) for number in (0, 1, 2)] == [1, 2, 1]
    assert [attempt.first_step for attempt in jobs[1].attempts][1] > 1, "it did not begin anew"
    kept = tmp_path / "s3" / "bins" / "checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == sorted(job.name for job in jobs.values())


def test_a_grid_is_gone_through_once(tmp_path):
    space = {"lr": {"choice": [0.001, 0.1]}, "bad": {"choice": [False]}}
    with rehearsed(tmp_path) as (client, _):
        client.create_hyper_parameter_tuning_job(**request(space=space, strategy="grid", num_trials=None))
        ended(client)
        tuned = [one["TunedHyperParameters"] for one in trials(client)]
    assert tuned == [{"lr": "0.001", "bad": "false"}, {"lr": "0.1", "bad": "false"}]


def test_stopped_it_stops_its_trials_and_is_not_stopped_twice(tmp_path):
    with rehearsed(tmp_path) as (client, _):
        client.create_hyper_parameter_tuning_job(**request(epochs=100, pause_s=0.2))
        while not trials(client):
            time.sleep(0.05)
        client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune")
        described = ended(client)
        assert described["HyperParameterTuningJobStatus"] == "Stopped"
        assert described["TrainingJobStatusCounters"]["Stopped"] == 2
        code, message = refusal(client.stop_hyper_parameter_tuning_job, HyperParameterTuningJobName="tune")
        assert code == "ValidationException" and "in status Stopped" in message


@pytest.mark.parametrize(("values", "most"), [({"target": 0.0}, 3), ({"patience": 3}, 9), ({"max_runtime_s": 120}, 30)])
def test_a_completion_criterion_ends_it_before_its_number_of_trials(tmp_path, values, most):
    space = {"lr": {"choice": [0.01, 0.010000001]}}  # equally good
    with rehearsed(tmp_path) as (client, server):
        many = request(space=space, epochs=1, num_trials=30, strategy="random", **values)
        client.create_hyper_parameter_tuning_job(**many)
        if "max_runtime_s" in values:
            server.tuning._tunings["tune"].created_at -= 121
        described = ended(client)
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert sum(described["TrainingJobStatusCounters"].values()) <= most


def test_trials_that_lag_are_stopped_and_the_search_goes_on(tmp_path):
    space = {"lr": {"choice": [0.01, 0.0101, 0.0102, 1e-5]}}
    with rehearsed(tmp_path) as (client, _):
        one = request(space=space, epochs=6, pause_s=0.2, parallel=1, early_stopping=True, strategy="grid")
        client.create_hyper_parameter_tuning_job(**one)
        described = ended(client)
        seen = trials(client)
    stopped = [one for one in seen if one["TrainingJobStatus"] == "Stopped"]
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert [one["TunedHyperParameters"]["lr"] for one in stopped][-1:] == ["1e-05"]
    assert all("FinalHyperParameterTuningJobObjectiveMetric" in one for one in stopped)


def test_the_median_rule_is_that_of_awss_guide():
    config = {"Strategy": "Bayesian", "TrainingJobEarlyStoppingType": "Auto"}
    others = [[0.2, 0.4, 0.9], [0.4, 0.6], [0.6, 0.8]]
    averages = [statistics.fmean(other[:2]) for other in others]  # 0.3, 0.5, 0.7
    assert statistics.median(averages) == 0.5
    assert lags([0.9, 0.49], others, config, maximize=True)
    assert not lags([0.1, 0.51], others, config, maximize=True)
    assert not lags([0.1, 0.49], others, config, maximize=False)
    assert not lags([], others, config, maximize=True)
    assert not lags([0.0], [[1.0]], config, maximize=True), "one earlier trial says nothing yet"
    assert not lags([0.0, 0.0], others, config | {"TrainingJobEarlyStoppingType": "Off"}, maximize=True)


def test_hyperband_lets_a_third_pass_each_rung():
    config = {
        "Strategy": "Hyperband",
        "StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 9}},
    }
    others = [[score] * 9 for score in (0.1, 0.2, 0.3, 0.4, 0.5)]
    assert [lags([score], others, config, True) for score in (0.05, 0.35, 0.45, 0.6)] == [True, True, False, False]
    assert lags([0.6] * 9, others, config, True), "at the greatest resource each ends"


def test_a_warm_start_learns_from_what_was_tried_before(tmp_path):
    with rehearsed(tmp_path) as (client, server):
        client.create_hyper_parameter_tuning_job(**request(num_trials=8, parallel=4))
        ended(client)
        client.create_hyper_parameter_tuning_job(**request("next", num_trials=1, parallel=1, warm_start=["tune"]))
        ended(client, "next")
        study = server.tuning._tunings["next"]
        (one,) = trials(client, "next")
        assert study.request["WarmStartConfig"]["WarmStartType"] == "IdenticalDataAndAlgorithm"
        missing = request("third", warm_start=["nobody"])
        assert refusal(client.create_hyper_parameter_tuning_job, **missing)[0] == "ResourceNotFound"
        other = request("fourth", warm_start=["tune"], metric="valid/loss")
        assert "the same objective" in refusal(client.create_hyper_parameter_tuning_job, **other)[1]
    assert 1e-5 <= float(one["TunedHyperParameters"]["lr"]) <= 1.0


def test_what_aws_refuses_is_refused(tmp_path):
    with rehearsed(tmp_path) as (client, _):
        create = client.create_hyper_parameter_tuning_job
        create(**request(num_trials=1, parallel=1))
        assert refusal(create, **request(num_trials=1, parallel=1))[0] == "ResourceInUse"
        assert "at most 32" in refusal(create, **request("x" * 33))[1]
        assert "early stopping off" in refusal(create, **request("a", strategy="hyperband", early_stopping=True))[1]
        assert "MaxResource: is missing" in refusal(create, **request("a", strategy="hyperband"))[1]
        unknown = client.describe_hyper_parameter_tuning_job
        assert refusal(unknown, HyperParameterTuningJobName="nobody")[0] == "ResourceNotFound"
        ended(client)


def test_where_awss_toolkit_is_not_installed_its_program_is_started_without_and_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("stocktake.rehearsal.entrypoint.find_spec", lambda _: None)
    with rehearsed(tmp_path) as (client, server):
        client.create_hyper_parameter_tuning_job(**request(num_trials=1, parallel=1, start="toolkit"))
        assert ended(client)["TrainingJobStatusCounters"]["Completed"] == 1
        (job,) = server.jobs.all()
    assert job.warnings == [NO_TOOLKIT]
    assert "sagemaker-training-toolkit" not in (tmp_path / job.name / "logs" / "algo-1.log").read_text()


def test_a_fault_of_a_trial_is_for_tuning_jobs_alone(tmp_path):
    with rehearsed(tmp_path, [{"kind": "kill", "trial": 0}]) as (client, _):
        urls = (f"s3://bins/{folder}" for folder in ("code", "config", "jobs"))
        role, image = "arn:aws:iam::123456789012:role/Stocktake", "123456789012.dkr.ecr.us-east-1.amazonaws.com/s:1"
        single = training_job("single", role, image, *urls, spot=True)
        code, message = refusal(client.create_training_job, **single)
    assert code == "ValidationException" and "names a trial, and this is no tuning job" in message


def test_what_another_trial_deletes_meanwhile_is_no_fault_of_this_one(tmp_path, monkeypatch):
    prefix = Prefix("s3://bins/checkpoints/", opener(tmp_path / "s3"))
    prefix.folder.write("mine/step-8.ckpt", b"8")
    listed = prefix.keys() | {"other/step-6.ckpt": "other/step-6.ckpt"}
    monkeypatch.setattr(prefix, "keys", lambda: listed)
    mirror = Mirror(tmp_path / "local", prefix, "algo-1", {})
    mirror.restore()
    assert [path.name for path in (tmp_path / "local").rglob("*.ckpt")] == ["step-8.ckpt"]
    assert mirror.upload() == []
