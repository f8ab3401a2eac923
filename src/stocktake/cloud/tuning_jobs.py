"""The body of CreateHyperParameterTuningJob, from a training job's and plain values; nothing here talks to AWS.

A tuning job has no ContainerEntrypoint. Its trials begin in one of two ways, with the same request otherwise:

    toolkit   AWS's own images run AWS's toolkit, which two hyperparameters tell to run container.py: it copies the
              channel `code` to /opt/ml/code and starts it there, without a shell. SIGTERM does not reach it.
    image     an image whose ENTRYPOINT is `python3 -m stocktake.cloud.container`, the Dockerfile's stage `training`

What a trial is given: the searched keys as hyperparameters, and in the channel `config`, beside the overrides that all
share, what each of them may be (see `stocktake.cloud.container_trial`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stocktake.cloud.request_types import Metric, ParameterRanges, TrainingJobRequest, TuningJobRequest
from stocktake.cloud.requests import NUMBER, training_job_keys

STRATEGIES = {"bayesian": "Bayesian", "random": "Random", "grid": "Grid", "hyperband": "Hyperband"}
MAX_NAME_CHARACTERS = 32
TOOLKIT = {"sagemaker_program": "container.py", "sagemaker_submit_directory": "/opt/ml/input/data/code"}
# The container names a trial's W&B run and its folder by the trial's job; all trials share the environment.
OF_ONE_JOB = ("WANDB_RUN_ID",)
OF_A_TRAINING_JOB = ("TrainingJobName", "Tags", "Environment", "AlgorithmSpecification", "HyperParameters")

# Where each value goes in the request: for errors that name what the user typed.
LIMITS, CRITERIA = "ResourceLimits", "TuningJobCompletionCriteria"
CONFIG_PATHS = {
    "num_trials": f"{LIMITS}.MaxNumberOfTrainingJobs",
    "parallel": f"{LIMITS}.MaxParallelTrainingJobs",
    "max_hours": f"{LIMITS}.MaxRuntimeInSeconds",
    "strategy": "Strategy",
    "min_resource": "StrategyConfig.HyperbandStrategyConfig.MinResource",
    "max_resource": "StrategyConfig.HyperbandStrategyConfig.MaxResource",
    "early_stopping": "TrainingJobEarlyStoppingType",
    "target": f"{CRITERIA}.TargetObjectiveMetricValue",
    "patience": f"{CRITERIA}.BestObjectiveNotImproving",
    "seed": "RandomSeed",
    "space": "ParameterRanges",
}


def tuning_job_keys(prefix: str = "hydra.sweeper", job_name: str = "hydra.sweeper.job_name") -> dict[str, str]:
    """Returns for every path of a tuning job's request the key that sets it in the user's configuration."""
    keys = {f"HyperParameterTuningJobConfig.{path}": f"{prefix}.{key}" for key, path in CONFIG_PATHS.items()}
    keys |= {"HyperParameterTuningJobName": job_name, "WarmStartConfig": f"{prefix}.warm_start", "Tags": "compute.tags"}
    trial = training_job_keys(hyperparameters=f"{prefix}.space")
    return keys | {f"TrainingJobDefinition.{path}": key for path, key in trial.items()}


def objective_name(metric: str) -> str:
    """Returns what SageMaker calls the best value so far of a metric, which each validation's line ends with."""
    return f"best/{metric}"


def tuning_job(
    name: str,
    trial: TrainingJobRequest,
    ranges: ParameterRanges,
    metric: str,
    better: Literal["higher", "lower"],
    num_trials: int | None = 20,
    parallel: int = 1,
    strategy: str = "bayesian",
    start: Literal["toolkit", "image"] = "toolkit",
    early_stopping: bool = False,
    max_runtime_s: int | None = None,
    seed: int | None = None,
    min_resource: int | None = None,
    max_resource: int | None = None,
    target: float | None = None,
    patience: int | None = None,
    converged: bool = False,
    warm_start: Sequence[str] = (),
    other_data: bool = False,
) -> TuningJobRequest:
    """Returns the body of CreateHyperParameterTuningJob.

    Whatever is wrong with the values is left for `stocktake.cloud.validation.check_request`, which reports all of it
    at once.

    Args:
        trial: Of one training, by `stocktake.cloud.requests.training_job`; its checkpoints are all trials'.
        metric: The logged key that is searched for, such as `valid/accuracy`.
        num_trials: `None` where the grid says how many.
        max_runtime_s: Of the whole tuning job.
        min_resource: For Hyperband, in validations, as is `max_resource`.
        target: The tuning job ends once the metric is as good.
        patience: It ends after so many trials that were no hundredth better.
        converged: It ends once SageMaker takes it for converged.
        warm_start: Names of earlier tuning jobs to learn from, at most 5.
        other_data: Whether these were on other data, or with another model.
    """
    limits: dict[str, Any] = {"MaxParallelTrainingJobs": parallel}
    if num_trials is not None:
        limits["MaxNumberOfTrainingJobs"] = num_trials
    if max_runtime_s is not None:
        limits["MaxRuntimeInSeconds"] = max_runtime_s
    config: dict[str, Any] = {
        "Strategy": STRATEGIES.get(strategy, strategy),
        "HyperParameterTuningJobObjective": {
            "Type": "Maximize" if better == "higher" else "Minimize",
            "MetricName": objective_name(metric),
        },
        "ResourceLimits": limits,
        "ParameterRanges": ranges,
        "TrainingJobEarlyStoppingType": "Auto" if early_stopping else "Off",
    }
    resources = {"MinResource": min_resource, "MaxResource": max_resource}
    if given := {key: value for key, value in resources.items() if value is not None}:
        config["StrategyConfig"] = {"HyperbandStrategyConfig": given}
    if criteria := _completion_criteria(target, patience, converged):
        config["TuningJobCompletionCriteria"] = criteria
    if seed is not None:
        config["RandomSeed"] = seed
    request: TuningJobRequest = {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": _definition(name, trial, metric, start),
        "Tags": trial["Tags"],
    }
    if warm_start:
        request["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": parent} for parent in warm_start],
            "WarmStartType": "TransferLearning" if other_data else "IdenticalDataAndAlgorithm",
        }
    return request


def _definition(name: str, trial: TrainingJobRequest, metric: str, start: str) -> dict[str, Any]:
    """Returns what all trials have in common."""
    algorithm = trial["AlgorithmSpecification"]
    objective: Metric = {"Name": objective_name(metric), "Regex": rf"\bobjective={NUMBER}"}
    kept = {key: value for key, value in trial.items() if key not in OF_A_TRAINING_JOB}
    shared: Mapping[str, str] = {key: text for key, text in trial["Environment"].items() if key not in OF_ONE_JOB}
    definition = {
        "AlgorithmSpecification": {
            "TrainingImage": algorithm["TrainingImage"],
            "TrainingInputMode": algorithm["TrainingInputMode"],
            "MetricDefinitions": [*algorithm["MetricDefinitions"], objective],
        },
        "Environment": {"WANDB_RUN_GROUP": name, **shared},
    }
    static = {**trial.get("HyperParameters", {}), **(TOOLKIT if start == "toolkit" else {})}
    return definition | ({"StaticHyperParameters": static} if static else {}) | kept


def _completion_criteria(target: float | None, patience: int | None, converged: bool) -> dict[str, Any]:
    criteria: dict[str, Any] = {}
    if target is not None:
        criteria["TargetObjectiveMetricValue"] = target
    if patience is not None:
        criteria["BestObjectiveNotImproving"] = {"MaxNumberOfTrainingJobsNotImproving": patience}
    if converged:
        criteria["ConvergenceDetected"] = {"CompleteOnConvergence": "Enabled"}
    return criteria
