"""What one field of a request demands of another: written in AWS's documentation, but not in its service model."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

Problems = Iterator[tuple[str, str]]  # path in the request, what is wrong with it and what to type

MAX_RUNTIME_S = 28 * 24 * 3600
MAX_RUNTIME = "StoppingCondition.MaxRuntimeInSeconds"
MAX_WAIT = "StoppingCondition.MaxWaitTimeInSeconds"
SPOT = "EnableManagedSpotTraining"
PREFERENCES = "ResourceConfig.InstancePreferences"
KEEP_ALIVE = "ResourceConfig.KeepAlivePeriodInSeconds"
VOLUME_KEY = "ResourceConfig.VolumeKmsKeyId"
# Types with disks of their own, whose hardware encrypts them; CreateTrainingJob, ResourceConfig, VolumeKmsKeyId: "You
# can't request a VolumeKmsKeyId when using an instance type with local storage". The list is of EC2's instance types
# with instance store among SageMaker's, and may lack new ones.
LOCAL_DISK_TYPE = re.compile(r"ml\.(g5|g6e?|gr6|p4de|p5e?n?|p6[\w-]*|trn1n?|trn2|\w+dn?)\.")
SECRET_NAME = re.compile(r"api_?key|secret_?(access_?)?key|password|passwd|credential|(^|_)token", re.IGNORECASE)


def training_job_problems(request: Mapping) -> Problems:
    """Yields what is wrong with a CreateTrainingJob request whose single fields are all right."""
    yield from _time_problems(request)
    yield from _resource_problems(request)
    yield from _container_problems(request)
    yield from _channel_problems(request)
    yield from _network_problems(request)
    yield from _secret_problems(request)


def _time_problems(request: Mapping) -> Problems:
    stopping = request.get("StoppingCondition", {})
    # AWS's own default is one day.
    max_runtime_s = stopping.get("MaxRuntimeInSeconds", 24 * 3600)
    max_wait_s = stopping.get("MaxWaitTimeInSeconds")
    if max_runtime_s > MAX_RUNTIME_S:
        yield MAX_RUNTIME, f"{max_runtime_s} s; at most {MAX_RUNTIME_S} s (28 days) allowed"
    if not request.get(SPOT):
        if max_wait_s is not None:
            yield MAX_WAIT, f"{max_wait_s} s is for spot only: leave it out, or switch spot on"
    elif max_wait_s is None:
        yield MAX_WAIT, f"is missing: spot needs it, at least the maximum runtime of {max_runtime_s} s"
    elif max_wait_s < max_runtime_s:
        yield (
            MAX_WAIT,
            f"{max_wait_s} s is less than the maximum runtime of {max_runtime_s} s that it includes",
        )


def _resource_problems(request: Mapping) -> Problems:
    resources, spot = request.get("ResourceConfig", {}), request.get(SPOT)
    ways = [way for way in ("InstanceType", "InstancePreferences", "InstanceGroups") if way in resources]
    if len(ways) != 1:
        yield "ResourceConfig.InstanceType", f"name instances in one way; there are {ways or 'none'}"
    if "InstancePreferences" in resources and spot:
        yield PREFERENCES, "several instance types are for on-demand only: name one for a spot job"
    if resources.get("KeepAlivePeriodInSeconds") and spot:
        # AWS documents warm pools for on-demand instances, and does not say what they would mean for spot.
        yield KEEP_ALIVE, "a warm pool is for on-demand instances: set it to 0, or switch spot off"
    entries = [("ResourceConfig", resources)] if "InstanceType" in resources else []
    for way in ("InstancePreferences", "InstanceGroups"):
        entries += [(f"ResourceConfig.{way}[{i}]", entry) for i, entry in enumerate(resources.get(way, ()))]
    for path, entry in entries:
        if entry.get("InstanceCount", 0) < 1:
            yield f"{path}.InstanceCount", f"{entry.get('InstanceCount')}; at least 1 instance needed"
    types = [entry.get("InstanceType", "") for _, entry in entries]
    local = [instance_type for instance_type in types if LOCAL_DISK_TYPE.match(instance_type)]
    if "VolumeKmsKeyId" in resources and local:
        yield VOLUME_KEY, f"{local[0]} has disks of its own, which its hardware encrypts: leave the key out"
    if resources.get("VolumeSizeInGB", 0) < 1:
        yield "ResourceConfig.VolumeSizeInGB", f"{resources.get('VolumeSizeInGB')}; at least 1 GB needed"
    for name in ("SelectedInstanceType", "SelectedInstanceCount"):
        if name in resources:
            yield f"ResourceConfig.{name}", "is AWS's answer, not a request: leave it out"


def _container_problems(request: Mapping) -> Problems:
    algorithm = request["AlgorithmSpecification"]
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        yield (
            "AlgorithmSpecification.TrainingImage",
            "give the URI of one image, and no AlgorithmName beside it",
        )
    if algorithm.get("TrainingImage") == "":
        yield "AlgorithmSpecification.TrainingImage", "is empty: give the URI of an image in ECR"
    for index, metric in enumerate(algorithm.get("MetricDefinitions", ())):
        try:
            groups = re.compile(metric["Regex"]).groups
        except re.error as error:
            yield f"AlgorithmSpecification.MetricDefinitions[{index}].Regex", f"{metric['Regex']!r}: {error}"
        else:
            if groups < 1:
                yield (
                    f"AlgorithmSpecification.MetricDefinitions[{index}].Regex",
                    f"{metric['Regex']!r} needs a group in round brackets around the value",
                )


def _channel_problems(request: Mapping) -> Problems:
    channels = Counter(channel["ChannelName"] for channel in request.get("InputDataConfig", ()))
    for name, count in channels.items():
        if count > 1:
            yield "InputDataConfig", f"channel {name!r} is there {count} times: each name once"
    for index, channel in enumerate(request.get("InputDataConfig", ())):
        if len(channel["DataSource"]) != 1:
            yield (
                f"InputDataConfig[{index}].DataSource",
                f"{len(channel['DataSource'])} sources; exactly 1 needed",
            )
    tags = Counter(tag["Key"] for tag in request.get("Tags", ()))
    for key, count in tags.items():
        if count > 1:
            yield "Tags", f"tag {key!r} is there {count} times: each key once"
        if key.lower().startswith("aws:"):
            yield "Tags", f"tag {key!r}: names that begin with aws: are reserved"


def _network_problems(request: Mapping) -> Problems:
    if not request.get("EnableNetworkIsolation"):
        return
    environment = request.get("Environment", {})
    if environment.get("WANDB_MODE", "online") not in ("offline", "disabled", "dryrun"):
        yield (
            "EnableNetworkIsolation",
            "an isolated container cannot reach W&B: set WANDB_MODE=offline in its environment, or open the network",
        )
    if environment.get("STOCKTAKE_REQUIREMENTS"):
        yield (
            "EnableNetworkIsolation",
            f"an isolated container cannot install {environment['STOCKTAKE_REQUIREMENTS']} at start: open the network",
        )
    if environment.get("WANDB_SECRET_ID"):
        yield (
            "EnableNetworkIsolation",
            "an isolated container cannot read a secret: leave WANDB_SECRET_ID out, or open the network",
        )


def _secret_problems(request: Mapping) -> Problems:
    # Hyperparameters and tags are shown in the console, in logs and in bills.
    named = [("HyperParameters", name) for name in request.get("HyperParameters", {})]
    named += [("Tags", tag["Key"]) for tag in request.get("Tags", ())]
    for path, name in named:
        if SECRET_NAME.search(name):
            yield path, f"{name!r} looks like a secret, and everybody can read it here: use Secrets Manager"


RULES = {"CreateTrainingJob": training_job_problems}
