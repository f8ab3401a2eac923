"""The body of a tuning job equals reviewed files, and what AWS would refuse of one is named with the key to type.

REVIEW_WIRE=1 writes the files anew, for a person to read before they are kept.
"""

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.awsrequest import AWSResponse

from stocktake.cloud.requests import training_job
from stocktake.cloud.tuning_jobs import CONFIG_PATHS, tuning_job, tuning_job_keys
from stocktake.cloud.validation import check_request, problem_lines
from stocktake.tuning.sagemaker_space import parameter_ranges
from stocktake.tuning.search_space import SearchSpace

WIRE = Path(__file__).parent / "wire"
SWEEP = Path(__file__).parents[2] / "conf" / "sweep" / "lr_dropout.yaml"
URLS: dict[str, Any] = {
    "role_arn": "arn:aws:iam::123456789012:role/StocktakeTraining",
    "image_uri": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker",
    "code_url": "s3://bins/jobs/code/1129-050000",
    "config_url": "s3://bins/jobs/lr-dropout-1129-050000/config",
    "output_url": "s3://bins/jobs",
}
SPOT: dict[str, Any] = {
    "spot": True,
    "max_runtime_s": 7200,
    "max_wait_s": 14_400,
    "checkpoint_url": "s3://bins/jobs/checkpoints/demo/default/lr-dropout-1129-050000",
    "environment": {"STOCKTAKE_EXPORT": "false", "WANDB_RUN_ID": "not-of-all-trials", "WANDB_SECRET_ID": "wandb"},
    "tags": {"commit": "0123abc", "dirty": "false"},
}
SHIPPED = SearchSpace.of(yaml.safe_load(SWEEP.read_text())["hydra"]["sweeper"]["space"])
CHOICES = SearchSpace.of({"head": {"choice": ["softmax", "corn"]}, "data.batch_size": {"choice": [32, "32", None]}})
MIXED = SearchSpace.of({"data.augment.rotate_deg": {"range": [0, 15]}, "head": {"choice": ['it\'s "q"', "数"]}})


def request(space: SearchSpace = SHIPPED, trial: Mapping[str, Any] = SPOT, **values: Any) -> dict[str, Any]:
    values = {"name": "lr-dropout-1129-050000", "metric": "valid/accuracy", "better": "higher", "seed": 0} | values
    made = training_job(job_name="lr-dropout-1129-050000", **URLS | trial)
    return dict(tuning_job(trial=made, ranges=parameter_ranges(space), **values))


BODIES = {
    "tuning_lr_dropout": request(parallel=2),
    "tuning_grid_image": request(
        CHOICES,
        {"image_uri": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/stocktake:1"},
        start="image",
        strategy="grid",
        num_trials=None,
        metric="valid/mae",
        better="lower",
    ),
    "tuning_hyperband_warm": request(
        MIXED,
        strategy="hyperband",
        min_resource=1,
        max_resource=31,
        max_runtime_s=36_000,
        target=0.6,
        patience=5,
        converged=True,
        warm_start=["lr-dropout-1128-120000"],
        other_data=True,
    ),
}


def sent(body: Mapping[str, Any]) -> tuple[str, dict]:
    """Returns the target and the body that boto3 would send."""
    seen = {}

    def answer(request, **_):
        seen["target"], seen["body"] = request.headers["X-Amz-Target"].decode(), json.loads(request.body)
        response = AWSResponse(request.url, 200, {}, None)
        response._content = (
            b'{"HyperParameterTuningJobArn": "arn:aws:sagemaker:us-east-1:1:hyper-parameter-tuning-job/x"}'
        )
        return response

    client = boto3.client("sagemaker", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    client.meta.events.register("before-send.sagemaker.CreateHyperParameterTuningJob", answer)
    client.create_hyper_parameter_tuning_job(**body)
    return seen["target"], seen["body"]


@pytest.mark.parametrize("name", BODIES)
def test_the_wire_equals_the_reviewed_file(name):
    check_request("CreateHyperParameterTuningJob", BODIES[name])
    target, body = sent(BODIES[name])
    assert target == "SageMaker.CreateHyperParameterTuningJob"
    file = WIRE / f"{name}.json"
    if os.environ.get("REVIEW_WIRE"):
        file.write_text(json.dumps(body, indent=2) + "\n")
    assert body == json.loads(file.read_text())


def ranges(number: int) -> SearchSpace:
    return SearchSpace.of({f"data.key_{index}": {"range": [0.0, 1.0]} for index in range(number)})


CONFIG, TRIAL = "HyperParameterTuningJobConfig", "TrainingJobDefinition"


def changed(path: str, value: Any, body: dict[str, Any]) -> dict[str, Any]:
    """Returns the body with a value at a path of names and numbers; `None` takes it out."""
    node = body = copy.deepcopy(body)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        node = node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return body


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (request(name="x" * 33), "hydra.sweeper.job_name (HyperParameterTuningJobName): 33 characters; at most 32"),
        (request(trial=SPOT | {"environment": {f"KEY_{i}": "1" for i in range(48)}}), "50 entries; at most 48 allowed"),
        (request(ranges(31)), "hydra.sweeper.space (HyperParameterTuningJobConfig.ParameterRanges.Continuous"),
        (request(SearchSpace.of({"a": {"choice": list(range(31))}})), "31 entries; at most 30 allowed"),
        (request(strategy="hyperband", max_resource=9, early_stopping=True), "switch early stopping off"),
        (request(strategy="hyperband"), "hydra.sweeper.max_resource (HyperParameterTuningJobConfig.StrategyConfig.Hyp"),
        (request(strategy="hyperband", min_resource=10, max_resource=9), "9 is less than the least, 10"),
        (request(strategy="hyperband", max_resource=20_001), "20001; at most 20000 allowed"),
        (request(max_resource=9), "is Hyperband's, and the strategy is Bayesian"),
        (request(strategy="grid", num_trials=None), "model.optimizer.lr: a grid is of categorical values alone"),
        (request(CHOICES, strategy="grid", num_trials=5), "hydra.sweeper.num_trials ("),
        (request(num_trials=None), "is missing, and nothing else ends the search"),
        (request(num_trials=2, parallel=3), "3 at a time of 2 in all"),
        (request(max_runtime_s=119), "hydra.sweeper.max_hours (HyperParameterTuningJobConfig.ResourceLimits.Max"),
        (request(patience=2), "hydra.sweeper.patience (HyperParameterTuningJobConfig.TuningJobCompletionCriteria"),
        (request(warm_start=["a", "a"]), "hydra.sweeper.warm_start (WarmStartConfig): 'a': name each earlier"),
        (request(warm_start=["lr-dropout-1129-050000"]), "and not this one"),
        (request(warm_start=list("abcdef")), "6 entries; at most 5 allowed"),
        (request(strategy="cmaes"), "hydra.sweeper.strategy (HyperParameterTuningJobConfig.Strategy): 'cmaes' is none"),
        (request(trial=SPOT | {"max_wait_s": 60}), "compute.max_wait_s (TrainingJobDefinition.StoppingCondition.Max"),
        (request(trial={"instance_types": ["ml.g5.xlarge", "ml.g6.xlarge"]}), "run on one type: name one"),
        (request(trial=SPOT | {"tags": {"aws:x": "1"}}), "compute.tags (Tags): tag 'aws:x'"),
        (request(trial={"hyperparameters": {"model.drop_rate": "0"}}), "'model.drop_rate' is there 2 times"),
        (request(SearchSpace.of({"_x": {"range": [0, 1]}})), "'_x': such names are AWS's own"),
        (changed("Autotune", {"Mode": "Enabled"}, request()), "would choose the ranges by itself"),
        (changed("TrainingJobDefinitions", [], request()), "1 needed"),
        (changed(f"{CONFIG}.HyperParameterTuningJobObjective", None, request()), "is missing: which metric"),
        (changed(f"{CONFIG}.HyperParameterTuningJobObjective.MetricName", "x", request()), "'x' is not among"),
        (changed(f"{TRIAL}.AlgorithmSpecification.ContainerEntrypoint", ["x"], request()), "is not known to AWS"),
        (changed(f"{TRIAL}.StaticHyperParameters.api_key", "x", request()), "looks like a secret"),
        (changed(f"{CONFIG}.ParameterRanges.ContinuousParameterRanges.0.MinValue", "0", request()), "begins above 0"),
        (changed(f"{CONFIG}.ParameterRanges.ContinuousParameterRanges.0.MaxValue", "x", request()), "must be numbers"),
        (changed(f"{CONFIG}.ParameterRanges.ContinuousParameterRanges.0.MaxValue", "inf", request()), "both finite"),
        (
            changed(f"{CONFIG}.ParameterRanges.IntegerParameterRanges.0.MaxValue", "1.5", request(MIXED)),
            "must be whole numbers",
        ),
        (
            changed(f"{CONFIG}.ParameterRanges.ContinuousParameterRanges.1.ScalingType", "ReverseLogarithmic",
                    changed(f"{CONFIG}.ParameterRanges.ContinuousParameterRanges.1.MaxValue", "1", request())),
            "from 0 on and below 1",
        ),
        (
            changed(f"{CONFIG}.ParameterRanges.CategoricalParameterRanges.0.Values", ["a", "a"], request(CHOICES)),
            "head: a value is there twice",
        ),
    ],
)  # fmt: skip
def test_what_aws_would_refuse_is_named_with_the_key_to_type(body, line):
    lines = problem_lines("CreateHyperParameterTuningJob", body, tuning_job_keys())
    assert any(line in one for one in lines), lines


def test_every_key_of_a_path_is_a_key_of_the_sweeper():
    from hydra_plugins.stocktake_sagemaker.tuning_options import TuningOptions

    known = set(TuningOptions.__dataclass_fields__)
    assert set(CONFIG_PATHS) <= known
    assert {key.rpartition(".")[2] for key in tuning_job_keys().values() if key.startswith("hydra.sweeper")} <= known


def test_the_trials_share_no_run_of_wandb_and_have_no_entrypoint():
    definition = request()["TrainingJobDefinition"]
    assert definition["Environment"]["WANDB_RUN_GROUP"] == "lr-dropout-1129-050000"
    assert "WANDB_RUN_ID" not in definition["Environment"]
    assert not [name for name in definition["AlgorithmSpecification"] if name.startswith("Container")]
