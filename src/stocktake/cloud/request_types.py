"""The bodies of CreateTrainingJob and CreateHyperParameterTuningJob, as far as they are filled; the names are AWS's."""

from typing import Any, NotRequired, TypedDict


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


class ContinuousRange(TypedDict):
    """Also of whole numbers; the ends are text, and may be taken."""

    Name: str
    MinValue: str
    MaxValue: str
    ScalingType: str


class CategoricalRange(TypedDict):
    Name: str
    Values: list[str]


class ParameterRanges(TypedDict):
    IntegerParameterRanges: list[ContinuousRange]
    ContinuousParameterRanges: list[ContinuousRange]
    CategoricalParameterRanges: list[CategoricalRange]


class TuningJobRequest(TypedDict):
    """The body of CreateHyperParameterTuningJob; what a trial runs on is a training job's, without its name."""

    HyperParameterTuningJobName: str
    HyperParameterTuningJobConfig: dict[str, Any]
    TrainingJobDefinition: dict[str, Any]
    WarmStartConfig: NotRequired[dict[str, Any]]
    Tags: list[Tag]
