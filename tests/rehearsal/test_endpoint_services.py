"""What stands beside an endpoint: alarms, scaling, a planned end, the registry, tags; no server is started for most."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from hosted import IMAGE, ROLE, account, refusal

from stocktake.cloud import endpoint_requests as requests
from stocktake.cloud import endpoint_scaling
from stocktake.cloud import endpoint_upkeep as upkeep


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """An account with the serverless endpoint `demo`, which nobody asks: no server runs."""
    with account(tmp_path_factory.mktemp("account")) as there:
        there.create("demo", variant=requests.serverless_variant("demo"))
        yield there


def test_alarms_come_and_go_in_boto3s_own_protocol(there):
    cloudwatch = there.server.client("cloudwatch")
    for alarm in upkeep.alarms("demo"):
        cloudwatch.put_metric_alarm(**alarm)
    seen = cloudwatch.describe_alarms(AlarmNamePrefix="demo-")["MetricAlarms"]
    assert [alarm["AlarmName"] for alarm in seen] == ["demo-5xx", "demo-latency"]
    assert seen[0]["StateValue"] == "OK", "nobody asked, which does not breach"
    assert (seen[0]["Threshold"], seen[0]["Period"], seen[1]["ExtendedStatistic"]) == (5.0, 60, "p95")
    assert datetime.now(UTC) - seen[0]["StateUpdatedTimestamp"] < timedelta(seconds=30)
    assert refusal(cloudwatch.delete_alarms, AlarmNames=["demo-5xx", "none"])[0] == "ResourceNotFound"
    with pytest.raises(ClientError, match="Period"):
        cloudwatch.put_metric_alarm(**upkeep.alarms("demo")[0] | {"Period": 61})
    cloudwatch.delete_alarms(AlarmNames=["demo-5xx", "demo-latency"])
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_a_target_and_its_policy_are_kept_and_go_with_the_endpoint(there):
    scaling = there.server.client("application-autoscaling")
    there.create("scaled", "demo", requests.serverless_variant("demo"))
    scalable, one_to_four = endpoint_scaling.variant("scaled", is_async=False), endpoint_scaling.Scaling(1, 4)
    target = endpoint_scaling.register(scalable, one_to_four)
    policy = endpoint_scaling.follow_load("scaled", scalable, one_to_four)
    code, message = refusal(scaling.put_scaling_policy, **policy)
    assert code == "ObjectNotFoundException"
    assert message.startswith(
        "No scalable target registered for service namespace: sagemaker, resource ID: endpoint/sc"
    )
    assert refusal(scaling.register_scalable_target, **target | {"MinCapacity": 5})[0] == "ValidationException"
    scaling.register_scalable_target(**target)
    assert scaling.put_scaling_policy(**policy)["PolicyARN"].endswith(":policyName/scaled-invocations")
    seen = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]])
    assert [(each["MinCapacity"], each["MaxCapacity"]) for each in seen["ScalableTargets"]] == [(1, 4)]
    seen = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert seen[0]["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 300
    there.sagemaker.delete_endpoint(EndpointName="scaled")
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []
    there.sagemaker.delete_endpoint_config(EndpointConfigName="scaled")


def test_a_planned_end_deletes_the_endpoint(there):
    scheduler = there.server.client("scheduler")
    there.create("brief", "demo", requests.serverless_variant("demo"))
    later = upkeep.planned_end("brief", ROLE, datetime.now(UTC) + timedelta(hours=1))[0]
    scheduler.create_schedule(**later)
    assert refusal(scheduler.create_schedule, **later)[0] == "ConflictException"
    seen = scheduler.get_schedule(Name="brief-end")
    assert json.loads(seen["Target"]["Input"]) == {"EndpointName": "brief"}
    assert [each["Name"] for each in scheduler.list_schedules(NamePrefix="bri")["Schedules"]] == ["brief-end"]
    scheduler.update_schedule(**upkeep.planned_end("brief", ROLE, datetime.now(UTC) + timedelta(seconds=1))[0])
    deadline = time.monotonic() + 10
    while "brief" in [each["EndpointName"] for each in there.sagemaker.list_endpoints()["Endpoints"]]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert scheduler.list_schedules()["Schedules"] == []
    assert refusal(scheduler.get_schedule, Name="brief-end") == (
        "ResourceNotFoundException",
        "Schedule brief-end does not exist.",
    )
    there.sagemaker.delete_endpoint_config(EndpointConfigName="brief")


def test_a_schedule_that_is_deleted_does_nothing(there):
    scheduler = there.server.client("scheduler")
    scheduler.create_schedule(**upkeep.planned_end("demo", ROLE, datetime.now(UTC) + timedelta(seconds=1))[0])
    scheduler.delete_schedule(Name="demo-end")
    time.sleep(1.5)
    assert there.sagemaker.describe_endpoint(EndpointName="demo")["EndpointStatus"] == "InService"
    request = upkeep.planned_end("demo", ROLE, datetime.now(UTC))[0]
    with pytest.raises(ClientError, match="aws-sdk:sagemaker"):
        scheduler.create_schedule(**request | {"Target": {"Arn": "arn:aws:lambda:us-east-1:1:f", "RoleArn": ROLE}})


def test_a_model_is_registered_approved_and_deployed_from_the_registry(there):
    sagemaker, group = there.sagemaker, "stocktake"
    sagemaker.create_model_package_group(ModelPackageGroupName=group)
    with pytest.raises(ClientError, match="already exists"):
        sagemaker.create_model_package_group(ModelPackageGroupName=group)
    package = {
        "ModelPackageGroupName": group,
        "InferenceSpecification": {
            "Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://models/good/model.tar.gz"}],
            "SupportedContentTypes": ["image/jpeg"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    }
    first = sagemaker.create_model_package(**package)["ModelPackageArn"]
    second = sagemaker.create_model_package(**package, ModelApprovalStatus="Rejected")["ModelPackageArn"]
    assert (first, second) == tuple(
        f"arn:aws:sagemaker:us-east-1:123456789012:model-package/stocktake/{n}" for n in (1, 2)
    )
    token = {"ClientToken": "made-again"}
    third = sagemaker.create_model_package(**package, **token)["ModelPackageArn"]
    assert sagemaker.create_model_package(**package, **token)["ModelPackageArn"] == third
    sagemaker.delete_model_package(ModelPackageName=third)
    assert sagemaker.describe_model_package(ModelPackageName=first)["ModelApprovalStatus"] == "PendingManualApproval"
    sagemaker.update_model_package(
        ModelPackageArn=first, ModelApprovalStatus="Approved", CustomerMetadataProperties={"mae": "0.9"}
    )
    approved = sagemaker.list_model_packages(ModelPackageGroupName=group, ModelApprovalStatus="Approved")
    assert [each["ModelPackageVersion"] for each in approved["ModelPackageSummaryList"]] == [1]
    assert sagemaker.describe_model_package(ModelPackageName=first)["CustomerMetadataProperties"] == {"mae": "0.9"}
    sagemaker.create_model(ModelName="registered", PrimaryContainer={"ModelPackageName": first}, ExecutionRoleArn=ROLE)
    assert sagemaker.describe_model(ModelName="registered")["PrimaryContainer"]["Image"] == IMAGE
    with pytest.raises(sagemaker.exceptions.ConflictException):
        sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    for arn in (first, second):
        sagemaker.delete_model_package(ModelPackageName=arn)
    with pytest.raises(ClientError, match="does not exist"):
        sagemaker.describe_model_package(ModelPackageName=first)
    sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    assert sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"] == []
    sagemaker.delete_model(ModelName="registered")


def test_tags_are_kept_by_arn(there):
    arn = there.sagemaker.describe_endpoint(EndpointName="demo")["EndpointArn"]
    assert there.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "project", "Value": "stocktake"}]
    there.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "ends-at", "Value": "now"}])
    there.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["project"])
    assert there.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "ends-at", "Value": "now"}]


def test_what_is_not_rehearsed_says_so_in_each_protocol(there):
    for call, arguments in (
        (there.server.client("cloudwatch").list_dashboards, {}),
        (there.server.client("application-autoscaling").describe_scheduled_actions, {"ServiceNamespace": "sagemaker"}),
        (there.server.client("scheduler").list_schedule_groups, {}),
    ):
        code, message = refusal(call, **arguments)
        assert code == "UnknownOperationException"
        assert "is not rehearsed" in message
