"""From a search's options and what was typed to the request of its tuning job, and all that is wrong with it.

Its name begins with _, so that Hydra does not import it at each start.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.stocktake_sagemaker.launcher import JobLauncher
from hydra_plugins.stocktake_sagemaker.options import LauncherOptions
from hydra_plugins.stocktake_sagemaker.plan import PLACEHOLDERS, Plan, job_name
from hydra_plugins.stocktake_sagemaker.problems import STAND_IN_ROLE, Problem, summary
from hydra_plugins.stocktake_sagemaker.tuning_options import TuningOptions
from hydra_plugins.stocktake_sagemaker.typed_sweep import TypedSweep
from stocktake.cli.check import wrong
from stocktake.cli.sweep_keys import TUNING
from stocktake.cloud.request_types import TrainingJobRequest, TuningJobRequest
from stocktake.cloud.secrets import masked, masked_override
from stocktake.cloud.source_archive import Code
from stocktake.cloud.training_images import ACCOUNTS
from stocktake.cloud.tuning_jobs import MAX_NAME_CHARACTERS, tuning_job, tuning_job_keys
from stocktake.cloud.validation import problem_lines
from stocktake.metrics.definitions import metric_of
from stocktake.tuning.sagemaker_space import parameter_ranges, searched, space_problems
from stocktake.tuning.search_space import SearchSpace, Value

EPOCHS = "trainer.max_epochs"


@dataclass(frozen=True)
class TuningPlan:
    """A search before it is sent.

    Attributes:
        title: The sweep's name.
        space: What is searched.
        metric: The logged key; `optimized_metric` of the configuration.
        typed: The overrides that all trials share, as they were typed, among them.
        probes: Jobs of some points of the space, none of which is sent: they are composed to see that all can be.
        request: The body of CreateHyperParameterTuningJob.
        folder: Where the results come to, a folder for each trial in it.
    """

    name: str
    title: str
    space: SearchSpace
    metric: str
    typed: TypedSweep
    probes: Sequence[Plan]
    request: TuningJobRequest
    folder: Path

    @property
    def trial(self) -> TrainingJobRequest:
        """A training job like the trials."""
        return self.probes[0].requests[0]

    @property
    def num_trials(self) -> int:
        limits = self.request["HyperParameterTuningJobConfig"]["ResourceLimits"]
        grid = math.prod(len(parameter.choices) for parameter in self.space.parameters)
        return limits.get("MaxNumberOfTrainingJobs", grid)

    def config_file(self, script: str) -> bytes:
        """Returns overrides.json of the channel `config`, in ASCII as that of a training job."""
        overrides = [*self.typed.fixed, *self.probes[0].added_overrides]
        sent = {"script": script, "overrides": overrides, "searched": searched(self.space, self.typed.added)}
        return json.dumps(sent, indent=1).encode("ascii")

    def most_hours(self) -> float:
        """Returns how many hours all instances together can run at most, as far as the request bounds it."""
        resources, limits = (
            self.trial["ResourceConfig"],
            self.request["HyperParameterTuningJobConfig"]["ResourceLimits"],
        )
        runtime_s = self.num_trials * self.trial["StoppingCondition"]["MaxRuntimeInSeconds"]
        if "MaxRuntimeInSeconds" in limits:
            runtime_s = min(runtime_s, limits["MaxParallelTrainingJobs"] * limits["MaxRuntimeInSeconds"])
        return runtime_s * resources.get("InstanceCount", 1) / 3600

    @property
    def bound(self) -> str:
        instance_type = self.trial["ResourceConfig"].get("InstanceType", "an instance")
        return f"at most {self.most_hours():g} hours of {instance_type} in all"

    def describe(self) -> str:
        limits = self.request["HyperParameterTuningJobConfig"]["ResourceLimits"]
        return f"{self.num_trials} trials, {limits['MaxParallelTrainingJobs']} at a time, {self.bound}"


def plan_search(
    launcher: JobLauncher, options: TuningOptions, typed: TypedSweep, config: DictConfig, code: Code
) -> TuningPlan:
    """Returns what would be sent; nothing of it is checked yet, but the space itself.

    Raises:
        ValueError: The space is none, or what a trial runs on cannot be known.
    """
    space = SearchSpace.of(typed.space)
    name = options.job_name or launcher.options.job_name
    name = name or job_name(options.name, launcher.started_at, max_characters=MAX_NAME_CHARACTERS)
    probes: list[Plan] = []
    for number, point in enumerate(probe_points(space)):
        overrides = typed.overrides(space.overrides(point))
        probe = launcher.plan(launcher.composed(overrides, number), overrides, number, name, number == 0, code)
        probes.append(replace(probe, requests=[_trial_request(request, probe, name) for request in probe.requests]))
    cfg = probes[0].cfg
    metric = str(cfg.optimized_metric)
    request = tuning_job(
        name,
        probes[0].requests[0],
        parameter_ranges(space),
        metric,
        metric_of(metric).better,
        num_trials=None if options.strategy == "grid" else options.num_trials,
        parallel=options.parallel,
        strategy=options.strategy,
        start=_start(options.start_by, probes[0].requests[0]["AlgorithmSpecification"]["TrainingImage"]),
        early_stopping=options.early_stopping,
        max_runtime_s=None if options.max_hours is None else round(options.max_hours * 3600),
        seed=options.seed,
        **(_resources(options, cfg) if options.strategy == "hyperband" else {}),
        target=options.target,
        patience=options.patience,
        converged=options.converged,
        warm_start=options.warm_start,
        other_data=options.other_data,
    )
    folder = Path(str(cfg.hydra.sweep.dir), name)
    return TuningPlan(name, options.name, space, metric, typed, probes, request, folder)


def probe_points(space: SearchSpace) -> list[dict[str, Value]]:
    """Returns points in which each choice comes up once, and the lower and upper ends of ranges in turn."""
    num_points = max([2, *(len(parameter.choices) for parameter in space.parameters)])
    points: list[dict[str, Value]] = [{} for _ in range(num_points)]
    for index, point in enumerate(points):
        for parameter in space.parameters:
            if space.active(parameter, point):
                ends = (parameter.low, parameter.high)
                tried = parameter.choices or ends
                point[parameter.key] = tried[index % len(tried)]
    return points


def _trial_request(job: TrainingJobRequest, probe: Plan, name: str) -> TrainingJobRequest:
    """Returns a trial's request: no exported model unless it is wanted, and checkpoints in the search's own folder."""
    request: TrainingJobRequest = {**job}
    request["Environment"] = {"STOCKTAKE_EXPORT": "false", **request["Environment"]}
    if checkpoints := request.get("CheckpointConfig"):
        url = checkpoints["S3Uri"].removesuffix(f"/{probe.number}/")
        request["CheckpointConfig"] = {**checkpoints, "S3Uri": f"{url}/{name}/"}
    return request


def _start(start_by: str, image_uri: str) -> Any:
    """Returns how trials begin: AWS's own images by AWS's toolkit, others by their ENTRYPOINT."""
    if start_by != "auto":
        return start_by
    return "toolkit" if image_uri.partition(".")[0] in {*ACCOUNTS.values(), "{account}"} else "image"


def _resources(options: TuningOptions, cfg: DictConfig) -> dict[str, int | None]:
    """Returns Hyperband's resources, in validations.

    A trial is stopped at the greatest, so that one more than it has leaves it the time to write its results.
    """
    epochs = OmegaConf.select(cfg, EPOCHS)
    most = options.max_resource or (epochs + 1 if isinstance(epochs, int) and epochs > 0 else None)
    return {"min_resource": options.min_resource, "max_resource": most}


def tuning_problems(plan: TuningPlan, options: TuningOptions) -> Iterator[Problem]:
    """Yields what SageMaker would refuse in the tuning job itself, or cannot do; of its trials the launcher tells."""
    for key, rule in TUNING.items():
        yield from map(Problem, wrong(key, getattr(options, key.rpartition(".")[2]), rule))
    yield from map(Problem, space_problems(plan.space, options.strategy))
    if len(plan.probes[0].cfg.compute.instance_types) > 1:
        yield Problem("compute.instance_types: a tuning job's trials run on one type. Type one of them")
    trial = {**plan.trial, "RoleArn": STAND_IN_ROLE} if _lacks_role(plan) else plan.trial
    definition = {**plan.request["TrainingJobDefinition"], "RoleArn": trial["RoleArn"]}
    request = {**plan.request, "TrainingJobDefinition": definition}
    problems = [line.partition(": ") for line in problem_lines("CreateTrainingJob", trial)]
    of_trials = {f"TrainingJobDefinition.{path}): {message}" for path, _, message in problems}
    for line in problem_lines("CreateHyperParameterTuningJob", request, tuning_job_keys()):
        if line.partition("(")[2] not in of_trials:
            yield Problem(line)


def _lacks_role(plan: TuningPlan) -> bool:
    return plan.trial["RoleArn"] == PLACEHOLDERS["role_arn"]


def show_dry_run(plan: TuningPlan, code: Code, problems: Sequence[Problem], options: LauncherOptions) -> None:
    """Prints all that would be sent, secrets covered, and all that is missing or wrong."""
    definition = plan.request["TrainingJobDefinition"]
    covered = {**definition, "Environment": masked(definition["Environment"])}
    shown = {**plan.request, "TrainingJobDefinition": covered}
    print(f"CreateHyperParameterTuningJob {plan.name}:\n{json.dumps(shown, indent=2)}")
    sent = json.loads(plan.config_file(options.script))
    sent["overrides"] = [masked_override(override) for override in sent["overrides"]]
    print(f"{plan.probes[0].config_url}/overrides.json: {json.dumps(sent)}\n")
    if options.list_files:
        print("\n".join(code.files))
    print(f"Code: {code.describe()}.\n{plan.describe()}.\nNothing was sent (dry_run=true).")
    checked = "AWS's service model, the rules across its fields and the trials' overrides"
    print(summary(problems) if problems else f"Checked against {checked}: all right.")
