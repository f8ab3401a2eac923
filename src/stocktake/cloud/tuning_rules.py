"""What one field of a tuning job's request demands of another: in AWS's documentation, but not in its service model.

Sources: the service model's own texts (HyperParameterTuningJobConfig, HyperbandStrategyConfig, ParameterRanges) and the
developer guide's pages on strategies, limits and warm start.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stocktake.cloud.validation_rules import Problems, training_job_problems

CONFIG, TRIAL = "HyperParameterTuningJobConfig", "TrainingJobDefinition"
LIMITS, RANGES = f"{CONFIG}.ResourceLimits", f"{CONFIG}.ParameterRanges"
KINDS = ("IntegerParameterRanges", "ContinuousParameterRanges", "CategoricalParameterRanges")
MAX_RANGED, MAX_HYPERPARAMETERS, MAX_HYPERBAND_RESOURCE = 30, 100, 20_000
RESERVED = ("_", "sagemaker_")


def tuning_job_problems(request: Mapping) -> Problems:
    """Yields what is wrong with a CreateHyperParameterTuningJob request whose single fields are all right."""
    if "Autotune" in request:
        yield "Autotune", "would choose the ranges by itself: leave it out"
    if TRIAL not in request or "TrainingJobDefinitions" in request:
        yield TRIAL, "describe the trials there, and nowhere else"
        return
    yield from _trial_problems(request)
    config = request[CONFIG]
    yield from _objective_problems(config, request[TRIAL])
    yield from _range_problems(config.get("ParameterRanges", {}), request[TRIAL].get("StaticHyperParameters", {}))
    yield from _limit_problems(config)
    yield from _strategy_problems(config)
    yield from _warm_start_problems(request)


def _trial_problems(request: Mapping) -> Problems:
    """Yields what a training job like the trials would have wrong."""
    trial = request[TRIAL]
    moved = {"HyperParameters": "StaticHyperParameters"}
    as_job = {**trial, "HyperParameters": trial.get("StaticHyperParameters", {}), "Tags": request.get("Tags", ())}
    for path, message in training_job_problems(as_job):
        yield path if path == "Tags" else f"{TRIAL}.{moved.get(path, path)}", message
    if "InstancePreferences" in trial.get("ResourceConfig", {}):
        yield f"{TRIAL}.ResourceConfig.InstancePreferences", "a tuning job's trials run on one type: name one"
    if "HyperParameterTuningResourceConfig" in trial:
        yield f"{TRIAL}.HyperParameterTuningResourceConfig", "AWS lists no GPU for it: use ResourceConfig"


def _objective_problems(config: Mapping, trial: Mapping) -> Problems:
    path = f"{CONFIG}.HyperParameterTuningJobObjective"
    if "HyperParameterTuningJobObjective" not in config:
        yield path, "is missing: which metric is searched for, and its direction"
        return
    name = config["HyperParameterTuningJobObjective"]["MetricName"]
    known = [metric["Name"] for metric in trial["AlgorithmSpecification"].get("MetricDefinitions", ())]
    if name not in known:
        yield f"{path}.MetricName", f"{name!r} is not among the metric definitions: {', '.join(known) or 'none'}"


def _range_problems(ranges: Mapping[str, Sequence[Mapping[str, Any]]], static: Mapping[str, str]) -> Problems:
    names = Counter(one["Name"] for kind in KINDS for one in ranges.get(kind, ()))
    if not names:
        yield RANGES, "nothing is searched: name at least one range"
    if len(names) > MAX_RANGED:
        yield RANGES, f"{len(names)} parameters; at most {MAX_RANGED} can be searched"
    if len(names) + len(static) > MAX_HYPERPARAMETERS:
        yield RANGES, f"{len(names) + len(static)} with the static ones; at most {MAX_HYPERPARAMETERS} allowed"
    for name, count in names.items():
        if count > 1 or name in static:
            yield RANGES, f"{name!r} is there {count + (name in static)} times: each name once, searched or static"
        if name.startswith(RESERVED) or not name:
            yield RANGES, f"{name!r}: such names are AWS's own"
    for kind in KINDS[:2]:
        for index, one in enumerate(ranges.get(kind, ())):
            for message in _end_problems(one, whole=kind == KINDS[0]):
                yield f"{RANGES}.{kind}[{index}]", f"{one['Name']}: {message}"
    for index, one in enumerate(ranges.get(KINDS[2], ())):
        if len(set(one["Values"])) < len(one["Values"]):
            yield f"{RANGES}.{KINDS[2]}[{index}]", f"{one['Name']}: a value is there twice"


def _end_problems(one: Mapping[str, Any], whole: bool) -> Iterator[str]:
    try:
        low, high = ((int if whole else float)(one[end]) for end in ("MinValue", "MaxValue"))
    except ValueError:
        yield f"{one['MinValue']!r} and {one['MaxValue']!r} must be {'whole ' if whole else ''}numbers"
        return
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        yield f"from {one['MinValue']} to {one['MaxValue']} there is nothing: the lower first, both finite"
    scale = one.get("ScalingType", "Auto")
    if scale == "Logarithmic" and low <= 0:
        yield f"a logarithmic range begins above 0, not at {one['MinValue']}"
    if scale == "ReverseLogarithmic" and (whole or not 0 <= low < high < 1):
        yield "a reverse logarithmic range is of real numbers from 0 on and below 1"


def _limit_problems(config: Mapping) -> Problems:
    limits = config["ResourceLimits"]
    total, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    if total is not None and parallel > total:
        yield f"{LIMITS}.MaxParallelTrainingJobs", f"{parallel} at a time of {total} in all: at most as many"
    ends = "MaxRuntimeInSeconds" in limits or config.get("TuningJobCompletionCriteria")
    if total is None and config["Strategy"] != "Grid" and not ends:
        yield f"{LIMITS}.MaxNumberOfTrainingJobs", "is missing, and nothing else ends the search"


def _strategy_problems(config: Mapping) -> Problems:
    strategy, ranges = config["Strategy"], config.get("ParameterRanges", {})
    hyperband = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    path = f"{CONFIG}.StrategyConfig"
    if strategy == "Hyperband":
        if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
            yield f"{CONFIG}.TrainingJobEarlyStoppingType", "Hyperband stops trials itself: switch early stopping off"
        path = f"{path}.HyperbandStrategyConfig.MaxResource"
        most = hyperband.get("MaxResource")
        if most is None:
            yield path, "is missing: Hyperband has to know how many validations a whole trial has"
        elif most > MAX_HYPERBAND_RESOURCE:
            yield path, f"{most}; at most {MAX_HYPERBAND_RESOURCE} allowed"
        elif hyperband.get("MinResource", 1) > most:
            yield path, f"{most} is less than the least, {hyperband['MinResource']}"
    elif "StrategyConfig" in config:
        yield path, f"is Hyperband's, and the strategy is {strategy}"
    if strategy == "Grid":
        for kind in KINDS[:2]:
            for one in ranges.get(kind, ()):
                yield f"{RANGES}.{kind}", f"{one['Name']}: a grid is of categorical values alone"
        size = math.prod(len(one["Values"]) for one in ranges.get(KINDS[2], ()))
        total = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
        if total is not None and total != size:
            yield f"{LIMITS}.MaxNumberOfTrainingJobs", f"{total}, and the grid has {size}: leave it out, or say {size}"


def _warm_start_problems(request: Mapping) -> Problems:
    parents = request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", ())
    names = Counter(parent.get("HyperParameterTuningJobName") for parent in parents)
    for name, count in names.items():
        if count > 1 or name in (None, request["HyperParameterTuningJobName"]):
            yield "WarmStartConfig", f"{name!r}: name each earlier tuning job once, and not this one"


RULES = {"CreateHyperParameterTuningJob": tuning_job_problems}
