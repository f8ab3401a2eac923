"""Request dictionaries for SageMaker's API, from plain values; nothing here talks to AWS.

They are sent with boto3's client: it is a light dependency that is needed for credentials anyway, and its requests
are these dictionaries as they stand. The sagemaker SDK's typed layer would send the same bytes after importing
1,300 modules, and validates less than `stocktake.cloud.validation`.

How a job's parts reach its instances:

    channel `code`    code.tar.gz (the git-tracked files) and container.py beside it, which unpacks it
    channel `config`  overrides.json: the script and the user's overrides, byte for byte
    ContainerEntrypoint  python3 .../code/container.py, so that PID 1 is ours and SIGTERM reaches the training
    checkpoint_url    what lies in /opt/ml/checkpoints, restored on every instance when a spot job starts again
    output_url        <job>/output/model.tar.gz and output.tar.gz
"""

from collections.abc import Mapping, Sequence

from stocktake.cloud.request_types import Algorithm, Channel, Resources, S3Source, TrainingJobRequest

CONTAINER_ENTRYPOINT = ("python3", "/opt/ml/input/data/code/container.py")

# What SageMaker reads from the log: it keeps the last value that a regex saw. A rehearsal counts by `step`.
NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|nan|[-+]?inf)"
DEFAULT_METRICS = {"step": r"\bstep=([0-9]+)", "valid/accuracy": rf"\bvalid/accuracy={NUMBER}"}

# Where each value of `training_job` goes in the request: for errors that name what the user typed.
TRAINING_JOB_PATHS = {
    "job_name": "TrainingJobName",
    "role_arn": "RoleArn",
    "image_uri": "AlgorithmSpecification.TrainingImage",
    "entrypoint": "AlgorithmSpecification.ContainerEntrypoint",
    "arguments": "AlgorithmSpecification.ContainerArguments",
    "metrics": "AlgorithmSpecification.MetricDefinitions",
    "hyperparameters": "HyperParameters",
    "channels": "InputDataConfig",
    "output_url": "OutputDataConfig.S3OutputPath",
    "instance_types": "ResourceConfig.InstanceType",
    "num_instances": "ResourceConfig.InstanceCount",
    "volume_gb": "ResourceConfig.VolumeSizeInGB",
    "keep_alive_s": "ResourceConfig.KeepAlivePeriodInSeconds",
    "max_runtime_s": "StoppingCondition.MaxRuntimeInSeconds",
    "max_wait_s": "StoppingCondition.MaxWaitTimeInSeconds",
    "spot": "EnableManagedSpotTraining",
    "checkpoint_url": "CheckpointConfig.S3Uri",
    "environment": "Environment",
    "network_isolation": "EnableNetworkIsolation",
    "subnets": "VpcConfig.Subnets",
    "security_groups": "VpcConfig.SecurityGroupIds",
    "tags": "Tags",
    "output_kms_key": "OutputDataConfig.KmsKeyId",
    "volume_kms_key": "ResourceConfig.VolumeKmsKeyId",
    "encrypted_traffic": "EnableInterContainerTrafficEncryption",
}


def training_job_keys(
    group: str = "compute", job_name: str = "hydra.launcher.job_name", **others: str
) -> dict[str, str]:
    """Returns for every path of a training job's request the key that sets it in the user's configuration.

    Args:
        group: The configuration group that holds the values of `training_job`.
        job_name: The key that holds the job's name.
        others: Further values of `training_job` that live outside `group`, with their full key.
    """
    keys = {name: f"{group}.{name}" for name in TRAINING_JOB_PATHS} | {"job_name": job_name} | others
    paths = {path: keys[name] for name, path in TRAINING_JOB_PATHS.items()}
    return paths | {"ResourceConfig.InstancePreferences": keys["instance_types"]}


def training_job(
    job_name: str,
    role_arn: str,
    image_uri: str,
    code_url: str,
    config_url: str,
    output_url: str,
    instance_types: Sequence[str] = ("ml.g5.xlarge",),
    num_instances: int = 1,
    volume_gb: int = 100,
    max_runtime_s: int = 24 * 3600,
    spot: bool = False,
    max_wait_s: int | None = None,
    checkpoint_url: str | None = None,
    keep_alive_s: int = 0,
    channels: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] = CONTAINER_ENTRYPOINT,
    arguments: Sequence[str] = (),
    hyperparameters: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    metrics: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    subnets: Sequence[str] = (),
    security_groups: Sequence[str] = (),
    network_isolation: bool = False,
    output_kms_key: str | None = None,
    volume_kms_key: str | None = None,
    encrypted_traffic: bool = False,
) -> TrainingJobRequest:
    """Returns the body of CreateTrainingJob.

    Whatever is wrong with the values is left for `stocktake.cloud.validation.check_request`, which reports
    all of it at once.

    Args:
        code_url: S3 folder with code.tar.gz and container.py.
        config_url: S3 folder with overrides.json.
        output_url: S3 folder; SageMaker adds `<job_name>/output/`.
        instance_types: One type, or several in order of preference: SageMaker then takes the first with capacity
            (on-demand only; for spot, send one job after the other).
        max_wait_s: For spot: waiting and running together. `None` is `max_runtime_s` for spot, else nothing.
        checkpoint_url: S3 folder that mirrors /opt/ml/checkpoints; without it an interrupted job starts anew.
        keep_alive_s: How long the instances stay warm, and billed, for the next job; 0 lets them go.
        channels: Further input channels, name to S3 folder; each lies in /opt/ml/input/data/<name>.
        entrypoint: What PID 1 runs; empty for an image whose own ENTRYPOINT is `stocktake.cloud.container`.
        metrics: Name to a regex whose first group is the value.
        output_kms_key: Id, alias or ARN of the key for model.tar.gz and output.tar.gz; `None` leaves it to the bucket.
        volume_kms_key: Of the key for the instances' volumes; not for types that keep data on disks of their own.
        encrypted_traffic: Between the instances; AWS says that training then takes longer.
    """
    urls = {"code": code_url, "config": config_url} | dict(channels or {})
    algorithm: Algorithm = {
        "TrainingImage": image_uri,
        "TrainingInputMode": "File",
        "MetricDefinitions": [
            {"Name": name, "Regex": regex} for name, regex in (DEFAULT_METRICS if metrics is None else metrics).items()
        ],
    }
    if entrypoint:
        algorithm["ContainerEntrypoint"] = list(entrypoint)
    if arguments:
        algorithm["ContainerArguments"] = list(arguments)
    request: TrainingJobRequest = {
        "TrainingJobName": job_name,
        "RoleArn": role_arn,
        "AlgorithmSpecification": algorithm,
        "InputDataConfig": [_channel(name, url) for name, url in urls.items()],
        "OutputDataConfig": {"S3OutputPath": output_url},
        "ResourceConfig": _resources(instance_types, num_instances, volume_gb, keep_alive_s),
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime_s},
        "EnableManagedSpotTraining": spot,
        "EnableNetworkIsolation": network_isolation,
        # One W&B run per job: after an interruption the same one goes on.
        "Environment": {"WANDB_RUN_ID": job_name, "WANDB_RESUME": "allow"} | dict(environment or {}),
        "Tags": [{"Key": key, "Value": value} for key, value in ({"project": "stocktake"} | dict(tags or {})).items()],
    }
    if spot and max_wait_s is None:
        max_wait_s = max_runtime_s
    if max_wait_s is not None:
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = max_wait_s
    if checkpoint_url:
        request["CheckpointConfig"] = {"S3Uri": _folder(checkpoint_url), "LocalPath": "/opt/ml/checkpoints"}
    if hyperparameters:
        request["HyperParameters"] = dict(hyperparameters)
    if subnets or security_groups:
        request["VpcConfig"] = {"Subnets": list(subnets), "SecurityGroupIds": list(security_groups)}
    if output_kms_key:
        request["OutputDataConfig"]["KmsKeyId"] = output_kms_key
    if volume_kms_key:
        request["ResourceConfig"]["VolumeKmsKeyId"] = volume_kms_key
    if encrypted_traffic:
        request["EnableInterContainerTrafficEncryption"] = True
    return request


def _folder(url: str) -> str:
    """Returns `url` with a slash at its end: to S3 it is a prefix, and `run/1` is one of `run/10/last.ckpt`, too."""
    return f"{url.rstrip('/')}/"


def _channel(name: str, url: str) -> Channel:
    source: S3Source = {"S3DataType": "S3Prefix", "S3Uri": _folder(url), "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _resources(instance_types: Sequence[str], num_instances: int, volume_gb: int, keep_alive_s: int) -> Resources:
    resources: Resources = {"VolumeSizeInGB": volume_gb}
    if len(instance_types) == 1:
        resources["InstanceType"], resources["InstanceCount"] = instance_types[0], num_instances
    else:
        resources["InstancePreferences"] = [
            {"InstanceType": instance_type, "InstanceCount": num_instances} for instance_type in instance_types
        ]
    if keep_alive_s:
        resources["KeepAlivePeriodInSeconds"] = keep_alive_s
    return resources
