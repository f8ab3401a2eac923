"""What one field of an endpoint's requests demands of another: in AWS's documentation, not in its service model.

Sources: Amazon SageMaker developer guide, "Serverless endpoint operations" (feature exclusions), "Deployment
guardrails", "Asynchronous inference", "Shadow tests"; API reference of CreateEndpointConfig, CreateModelPackage and
CreateTransformJob; Application Auto Scaling's and CloudWatch's API references.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

Problems = Iterator[tuple[str, str]]  # path in the request, what is wrong with it and what to type

SERVERLESS_MEMORIES_MB = range(1024, 6145, 1024)
MAX_STEP_PERCENT, LEAST_LINEAR_PERCENT = 50, 10
MAX_TRANSFORM_MB = 100  # MaxConcurrentTransforms times MaxPayloadInMB
BURSTABLE = re.compile(r"ml\.t\d")  # Application Auto Scaling does not take them


def model_problems(request: Mapping) -> Problems:
    if ("PrimaryContainer" in request) == ("Containers" in request):
        yield "PrimaryContainer", "give one container, and no Containers beside it"
    container = request.get("PrimaryContainer", {})
    if not container.get("Image") and not container.get("ModelPackageName"):
        yield "PrimaryContainer.Image", "is empty: give the URI of an image in ECR, or a ModelPackageName"
    url = container.get("ModelDataUrl", "")
    if url and not url.endswith(".tar.gz"):
        yield "PrimaryContainer.ModelDataUrl", f"{url!r} is no model.tar.gz; a folder goes into ModelDataSource"
    if "ExecutionRoleArn" not in request:
        yield "ExecutionRoleArn", "is missing: SageMaker reads the model with it"
    yield from _tag_problems(request)


def model_package_problems(request: Mapping) -> Problems:
    if ("ModelPackageName" in request) == ("ModelPackageGroupName" in request):
        yield "ModelPackageGroupName", "give a group, whose next version it becomes, or a ModelPackageName, one of them"
    if "ModelPackageGroupName" in request and "Tags" in request:
        yield "Tags", "are the group's: leave them out here"
    for index, container in enumerate(request.get("InferenceSpecification", {}).get("Containers", ())):
        path = f"InferenceSpecification.Containers[{index}]"
        if not container.get("Image"):
            yield f"{path}.Image", "is empty: give the URI of an image in ECR"
        url = container.get("ModelDataUrl", "")
        if url and not url.endswith(".tar.gz"):
            yield f"{path}.ModelDataUrl", f"{url!r} is no model.tar.gz"


def endpoint_config_problems(request: Mapping) -> Problems:
    variants = request["ProductionVariants"]
    for name, count in Counter(variant["VariantName"] for variant in variants).items():
        if count > 1:
            yield "ProductionVariants", f"variant {name!r} is there {count} times: each name once"
    are_serverless = ["ServerlessConfig" in variant for variant in variants]
    for index, variant in enumerate(variants):
        yield from _variant_problems(variant, f"ProductionVariants[{index}]", "ExecutionRoleArn" in request)
    if any(are_serverless):
        if len(variants) > 1:
            yield "ProductionVariants", "a serverless endpoint has one variant"
        # "Serverless endpoint operations": what a serverless endpoint cannot have.
        for field in ("DataCaptureConfig", "AsyncInferenceConfig", "VpcConfig", "KmsKeyId"):
            if field in request:
                yield field, "is not for a serverless endpoint: leave it out, or take an instance type"
        if request.get("EnableNetworkIsolation"):
            yield "EnableNetworkIsolation", "is not for a serverless endpoint: set it to false"
    if "ShadowProductionVariants" in request:
        yield from _shadow_problems(request)
    if "AsyncInferenceConfig" in request:
        if len(variants) > 1:
            yield "ProductionVariants", "an asynchronous endpoint has one variant"
        if "S3OutputPath" not in request["AsyncInferenceConfig"]["OutputConfig"]:
            yield "AsyncInferenceConfig.OutputConfig.S3OutputPath", "is missing: the answers go there"
    yield from _tag_problems(request)


def _shadow_problems(request: Mapping) -> Problems:
    variants, shadows = request["ProductionVariants"], request["ShadowProductionVariants"]
    if len(variants) > 1 or len(shadows) > 1:  # CreateEndpointConfig's API reference
        yield "ShadowProductionVariants", "one shadow variant stands beside one production variant, and no more"
        return
    (variant,), (shadow,) = variants, shadows
    yield from _variant_problems(shadow, "ShadowProductionVariants[0]", has_role=False)
    if shadow["VariantName"] == variant["VariantName"]:
        yield "ShadowProductionVariants[0].VariantName", f"{shadow['VariantName']!r} is the production variant's, too"
    # Its weight by the production variant's is the share of the requests that is copied.
    weight, most = (one.get("InitialVariantWeight", 1.0) for one in (shadow, variant))
    if not 0 < weight <= most:
        yield "ShadowProductionVariants[0].InitialVariantWeight", f"{weight:g}; above 0 and at most {most:g} allowed"
    if "AsyncInferenceConfig" in request or any("ServerlessConfig" in one for one in (variant, shadow)):
        yield "ShadowProductionVariants", "are for real-time endpoints on instances alone: type target=realtime"


def _variant_problems(variant: Mapping, path: str, has_role: bool) -> Problems:
    if "ModelName" not in variant and not has_role:
        yield f"{path}.ModelName", "is missing; without one, for inference components, ExecutionRoleArn is needed"
    scaling = variant.get("ManagedInstanceScaling", {})
    if "ModelName" in variant and scaling:
        yield f"{path}.ManagedInstanceScaling", "is for a variant of inference components, which has no ModelName"
    if scaling.get("MinInstanceCount", 1) > scaling.get("MaxInstanceCount", float("inf")):
        yield f"{path}.ManagedInstanceScaling.MinInstanceCount", "is more than MaxInstanceCount"
    serverless = variant.get("ServerlessConfig")
    if serverless is None:
        if "InstanceType" not in variant and "InstancePools" not in variant:
            yield f"{path}.InstanceType", "is missing: name an instance type, or give a ServerlessConfig"
        if "InitialInstanceCount" not in variant and "ManagedInstanceScaling" not in variant:
            yield f"{path}.InitialInstanceCount", "is missing: at least 1 instance needed"
        return
    for field in ("InstanceType", "InitialInstanceCount", "AcceleratorType", "VolumeSizeInGB"):
        if field in variant:
            yield f"{path}.{field}", "is not for a serverless endpoint: leave it out, or leave ServerlessConfig out"
    memory_mb = serverless["MemorySizeInMB"]
    if memory_mb not in SERVERLESS_MEMORIES_MB:
        allowed = ", ".join(map(str, SERVERLESS_MEMORIES_MB))
        yield f"{path}.ServerlessConfig.MemorySizeInMB", f"{memory_mb} is none of {allowed}"
    provisioned = serverless.get("ProvisionedConcurrency", 0)
    if provisioned > serverless["MaxConcurrency"]:
        yield (
            f"{path}.ServerlessConfig.ProvisionedConcurrency",
            f"{provisioned} is more than MaxConcurrency={serverless['MaxConcurrency']}",
        )


def deployment_problems(request: Mapping) -> Problems:
    """Yields what is wrong with the DeploymentConfig of a CreateEndpoint or an UpdateEndpoint."""
    deployment = request.get("DeploymentConfig", {})
    if "BlueGreenUpdatePolicy" in deployment and "RollingUpdatePolicy" in deployment:
        yield "DeploymentConfig", "has two policies: blue/green or rolling"
    policy = deployment.get("BlueGreenUpdatePolicy")
    if policy is not None:
        yield from _routing_problems(policy, "DeploymentConfig.BlueGreenUpdatePolicy")
    names = [alarm.get("AlarmName") for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", ())]
    if None in names or len(set(names)) < len(names):
        yield "DeploymentConfig.AutoRollbackConfiguration.Alarms", f"{names}: each by its name, and once"
    yield from _tag_problems(request)


def _routing_problems(policy: Mapping, path: str) -> Problems:
    routing = policy["TrafficRoutingConfiguration"]
    path = f"{path}.TrafficRoutingConfiguration"
    wanted = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(routing["Type"])
    for field in ("CanarySize", "LinearStepSize"):
        if (field in routing) != (field == wanted):
            yield f"{path}.{field}", f"is {'needed' if field == wanted else 'not for'} Type={routing['Type']}"
    step = routing.get(wanted) if wanted else None
    if step and step["Type"] == "CAPACITY_PERCENT":
        least = LEAST_LINEAR_PERCENT if wanted == "LinearStepSize" else 1
        if not least <= step["Value"] <= MAX_STEP_PERCENT:
            yield f"{path}.{wanted}.Value", f"{step['Value']} %; {least} to {MAX_STEP_PERCENT} allowed"
    num_waits = {"ALL_AT_ONCE": 1, "CANARY": 2}.get(routing["Type"], 1)
    if step and wanted == "LinearStepSize" and step["Type"] == "CAPACITY_PERCENT":
        num_waits = -(-100 // step["Value"])
    needed_s = num_waits * routing["WaitIntervalInSeconds"] + policy.get("TerminationWaitInSeconds", 0)
    max_time_s = policy.get("MaximumExecutionTimeoutInSeconds")
    if max_time_s is not None and max_time_s <= needed_s:
        yield (
            "DeploymentConfig.BlueGreenUpdatePolicy.MaximumExecutionTimeoutInSeconds",
            f"{max_time_s} s is over before the waits are, {needed_s} s together, and rolls back",
        )


def transform_problems(request: Mapping) -> Problems:
    # AWS's own defaults: 1 and 6.
    num_at_once, payload_mb = request.get("MaxConcurrentTransforms", 1), request.get("MaxPayloadInMB", 6)
    if num_at_once * payload_mb > MAX_TRANSFORM_MB:
        yield (
            "MaxConcurrentTransforms",
            f"{num_at_once} times MaxPayloadInMB={payload_mb} is more than {MAX_TRANSFORM_MB} MB; "
            f"{MAX_TRANSFORM_MB // max(payload_mb, 1)} or fewer allowed",
        )
    if request.get("BatchStrategy") == "MultiRecord" and request["TransformInput"].get("SplitType", "None") == "None":
        yield "BatchStrategy", "MultiRecord joins records, and TransformInput.SplitType says of none where they end"
    if request["TransformResources"]["InstanceCount"] < 1:
        yield "TransformResources.InstanceCount", "at least 1 instance needed"
    yield from _tag_problems(request)


def component_problems(request: Mapping) -> Problems:
    """Yields what is wrong with a CreateInferenceComponent or an UpdateInferenceComponent of one model."""
    specification = request.get("Specification", {})
    if ("ModelName" in specification) == ("Container" in specification):
        yield "Specification.ModelName", "give a model or a container, one of them"
    if "ComputeResourceRequirements" not in specification:
        yield "Specification.ComputeResourceRequirements", "is missing: what a copy takes of an instance"
    yield from _tag_problems(request)


def scalable_target_problems(request: Mapping) -> Problems:
    least, most = request.get("MinCapacity"), request.get("MaxCapacity")
    if least is not None and most is not None and least > most:
        yield "MinCapacity", f"{least} is more than MaxCapacity={most}"
    kind = "inference-component" if request["ScalableDimension"].endswith("DesiredCopyCount") else "endpoint"
    if not request["ResourceId"].startswith(f"{kind}/"):
        yield "ResourceId", f"{request['ResourceId']!r} does not fit ScalableDimension={request['ScalableDimension']}"


def scaling_policy_problems(request: Mapping) -> Problems:
    tracking = request.get("TargetTrackingScalingPolicyConfiguration")
    if request.get("PolicyType") == "TargetTrackingScaling" and tracking is None:
        yield "TargetTrackingScalingPolicyConfiguration", "is missing"
    if request.get("PolicyType") == "StepScaling" and not request.get("StepScalingPolicyConfiguration", {}).get(
        "StepAdjustments"
    ):
        yield "StepScalingPolicyConfiguration.StepAdjustments", "is missing"
    if tracking is not None:
        if ("PredefinedMetricSpecification" in tracking) == ("CustomizedMetricSpecification" in tracking):
            yield "TargetTrackingScalingPolicyConfiguration.PredefinedMetricSpecification", "name one metric"
        if tracking["TargetValue"] <= 0:
            yield "TargetTrackingScalingPolicyConfiguration.TargetValue", f"{tracking['TargetValue']}; above 0 needed"


def alarm_problems(request: Mapping) -> Problems:
    if ("Statistic" in request) == ("ExtendedStatistic" in request):
        yield "Statistic", "give a Statistic or an ExtendedStatistic, one of them"
    if request.get("Period", 60) not in (10, 30) and request.get("Period", 60) % 60:
        yield "Period", f"{request['Period']} s; 10, 30 or a multiple of 60 allowed"


def schedule_problems(request: Mapping) -> Problems:
    expression = request["ScheduleExpression"]
    if not re.fullmatch(r"(at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)|rate\(.+\)|cron\(.+\))", expression):
        yield "ScheduleExpression", f"{expression!r} is none of at(yyyy-mm-ddThh:mm:ss), rate(...), cron(...)"
    window = request["FlexibleTimeWindow"]
    if window["Mode"] == "FLEXIBLE" and "MaximumWindowInMinutes" not in window:
        yield "FlexibleTimeWindow.MaximumWindowInMinutes", "is needed where Mode is FLEXIBLE"


def _tag_problems(request: Mapping) -> Problems:
    for key, count in Counter(tag["Key"] for tag in request.get("Tags", ())).items():
        if count > 1:
            yield "Tags", f"tag {key!r} is there {count} times: each key once"
        if key.lower().startswith("aws:"):
            yield "Tags", f"tag {key!r}: names that begin with aws: are reserved"


RULES: dict[str, Callable[[Mapping], Problems]] = {
    "CreateModel": model_problems,
    "CreateModelPackage": model_package_problems,
    "CreateModelPackageGroup": _tag_problems,
    "CreateEndpointConfig": endpoint_config_problems,
    "CreateEndpoint": deployment_problems,
    "UpdateEndpoint": deployment_problems,
    "CreateInferenceComponent": component_problems,
    "UpdateInferenceComponent": component_problems,
    "CreateTransformJob": transform_problems,
    "RegisterScalableTarget": scalable_target_problems,
    "PutScalingPolicy": scaling_policy_problems,
    "PutMetricAlarm": alarm_problems,
    "CreateSchedule": schedule_problems,
}
