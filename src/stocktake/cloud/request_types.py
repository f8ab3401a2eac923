"""The body of CreateTrainingJob and what it is made of, as far as this project fills it; the names are AWS's."""

from typing import NotRequired, TypedDict


class Metric(TypedDict):
    Name: str
    Regex: str


class Algorithm(TypedDict):
    TrainingImage: str
    TrainingInputMode: str
    MetricDefinitions: list[Metric]
    ContainerEntrypoint: NotRequired[list[str]]
    ContainerArguments: NotRequired[list[str]]


class S3Source(TypedDict):
    S3DataType: str
    S3Uri: str
    S3DataDistributionType: str


class DataSource(TypedDict):
    S3DataSource: S3Source


class Channel(TypedDict):
    ChannelName: str
    DataSource: DataSource


class Output(TypedDict):
    S3OutputPath: str
    KmsKeyId: NotRequired[str]


class Instances(TypedDict):
    InstanceType: str
    InstanceCount: int


class Resources(TypedDict):
    """Either `InstanceType` and `InstanceCount`, or `InstancePreferences`."""

    VolumeSizeInGB: int
    InstanceType: NotRequired[str]
    InstanceCount: NotRequired[int]
    InstancePreferences: NotRequired[list[Instances]]
    KeepAlivePeriodInSeconds: NotRequired[int]
    VolumeKmsKeyId: NotRequired[str]


class Stopping(TypedDict):
    MaxRuntimeInSeconds: int
    MaxWaitTimeInSeconds: NotRequired[int]


class Checkpoints(TypedDict):
    S3Uri: str
    LocalPath: str


class Network(TypedDict):
    Subnets: list[str]
    SecurityGroupIds: list[str]


class Tag(TypedDict):
    Key: str
    Value: str


class TrainingJobRequest(TypedDict):
    TrainingJobName: str
    RoleArn: str
    AlgorithmSpecification: Algorithm
    InputDataConfig: list[Channel]
    OutputDataConfig: Output
    ResourceConfig: Resources
    StoppingCondition: Stopping
    EnableManagedSpotTraining: bool
    EnableNetworkIsolation: bool
    EnableInterContainerTrafficEncryption: NotRequired[bool]
    Environment: dict[str, str]
    Tags: list[Tag]
    CheckpointConfig: NotRequired[Checkpoints]
    HyperParameters: NotRequired[dict[str, str]]
    VpcConfig: NotRequired[Network]
