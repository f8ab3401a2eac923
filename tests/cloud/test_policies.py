"""What the policies allow and deny, judged by the calls that this project's tests really made (wire/calls.json)."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from policy_evaluator import ACCOUNT, DATA, PARTITION, REGION, Request, is_allowed, resources
from recorded_calls import CALLS

from stocktake.cloud.account import PEOPLE, POLICIES, Account
from stocktake.storage import Folder

OURS = Account(PARTITION, REGION, ACCOUNT, set_bucket="bins")
OWN = {"aws:ResourceTag/project": "stocktake"}
RECORDED: dict[str, dict[str, dict[str, Any]]] = json.loads(CALLS.read_text())
PREFIXES = {"sagemaker-runtime": "sagemaker", "service-quotas": "servicequotas", "resourcegroupstaggingapi": "tag"}
# Calls whose permission AWS names otherwise: https://docs.aws.amazon.com/service-authorization/latest/reference
ACTIONS = {
    "s3 HeadBucket": ["s3:ListBucket"],
    "s3 ListObjectVersions": ["s3:ListBucketVersions"],
    "s3 DeleteObjects": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
    "s3 ListMultipartUploads": ["s3:ListBucketMultipartUploads"],
    "s3 GetBucketEncryption": ["s3:GetEncryptionConfiguration"],
    "s3 PutBucketEncryption": ["s3:PutEncryptionConfiguration"],
    "s3 GetPublicAccessBlock": ["s3:GetBucketPublicAccessBlock"],
    "s3 PutPublicAccessBlock": ["s3:PutBucketPublicAccessBlock"],
    "s3 GetBucketLifecycleConfiguration": ["s3:GetLifecycleConfiguration"],
    "s3 PutBucketLifecycleConfiguration": ["s3:PutLifecycleConfiguration"],
    "budgets DescribeBudget": ["budgets:ViewBudget"],
    "budgets DescribeNotificationsForBudget": ["budgets:ViewBudget"],
    "budgets DescribeSubscribersForNotification": ["budgets:ViewBudget"],
    "budgets CreateBudget": ["budgets:ModifyBudget"],
    "budgets DeleteBudget": ["budgets:ModifyBudget"],
}
# Further permissions that AWS asks for with a call.
TAGS_WITH = {"ecr CreateRepository": "ecr:TagResource", "secretsmanager CreateSecret": "secretsmanager:TagResource"}


def names(call: str, request: Mapping[str, Any]) -> dict[str, str]:
    """Returns the fields of a request by the words that AWS's ARNs have for them."""
    single = {key.removesuffix("s"): value[0] for key, value in request.items() if key.endswith("Names") and value}
    whole = {key: value for key, value in request.items() if isinstance(value, str)}
    found = {key[0].upper() + key[1:]: value for key, value in (whole | single).items()}
    arn = found.get("ResourceArn", "")
    if (kind := re.search(r":sagemaker:[^/]*:([a-z-]+)/", arn)) is not None:
        word = "".join(part.title() for part in kind[1].split("-")) + "Name"
        found[word] = arn.rpartition("/")[2]
    service = call.partition(" ")[0]
    also = {
        "RoleNameWithPath": found.get("RoleName", "").replace("Stocktake", OURS.job_role),
        "BucketName": found.get("Bucket", "").replace(f"stocktake-{ACCOUNT}-{REGION}", OURS.bucket),
        "ObjectName": found.get("Key", "any/key"),
        "LogStreamName": found.get("LogStreamName", "any"),
        "EndpointConfigName": found.get("EndpointConfigName", "any"),
        "ScheduleName": found.get("Name", "") if service == "scheduler" else "",
        "GroupName": "default" if service == "scheduler" else "",
        "ModelPackageName": found.get("ModelPackageName", found.get("ModelPackageGroupName", "any")).rpartition(
            "package/"
        )[2],
        "SecretId": found.get("SecretId", found.get("Name", "")) + "-AbCdEf",
        "RepositoryName": found.get("RepositoryName", arn.rpartition("/")[2]),
    }
    if "Budget.BudgetName" in found:
        also["BudgetName"] = found["Budget.BudgetName"]
    return found | {key: value for key, value in also.items() if value and value != "-AbCdEf"}


def asked(call: str, request: Mapping[str, Any]) -> Iterator[Request]:
    """Yields what IAM is asked for a call that was recorded, of this project's own things."""
    service, _, operation = call.partition(" ")
    tags = {
        tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value"))
        for tag in request.get("Tags", request.get("tags", ()))
    }
    given = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    given |= {"aws:TagKeys": list(tags) or request.get("TagKeys", [])} if tags or "TagKeys" in request else {}
    makes = operation.startswith("Create")
    context = given if makes else {**given, **OWN}
    if "ServiceNamespace" in request:
        context |= {"application-autoscaling:service-namespace": request["ServiceNamespace"]}
    for action in ACTIONS.get(call, [f"{PREFIXES.get(service, service)}:{operation}"]):
        for arn in resources(action, names(call, request)):
            yield Request(action, arn, context)
            if makes and tags and service == "sagemaker":
                yield Request("sagemaker:AddTags", arn, {**context, "sagemaker:TaggingAction": operation})
    for key, value in request.items():
        if key.endswith("RoleArn"):
            role = OURS.scheduler_role if service == "scheduler" else OURS.job_role
            assert ":role/" in value
            yield Request("iam:PassRole", OURS.role_arn(role), {"iam:PassedToService": f"{service}.amazonaws.com"})


PERSON = [(call, request) for call, fields in RECORDED["person"].items() for request in asked(call, fields)]
SETUP = [(call, request) for call, fields in RECORDED["setup"].items() for request in asked(call, fields)]
NEEDS_NOTHING = {"sts:GetCallerIdentity"}  # which AWS answers to anybody


@pytest.mark.parametrize("call", RECORDED["person"])
def test_who_sends_jobs_and_deploys_may_make_each_call_that_was_made(call):
    policy = OURS.policy("person")
    requests = [request for request in asked(call, RECORDED["person"][call]) if request.action not in NEEDS_NOTHING]
    assert [request for request in requests if not is_allowed([policy], request)] == []


@pytest.mark.parametrize("call", RECORDED["setup"])
def test_who_sets_up_may_make_each_call_that_was_made(call):
    policies = [OURS.policy("setup"), OURS.policy("person")]
    requests = [request for request in asked(call, RECORDED["setup"][call]) if request.action not in NEEDS_NOTHING]
    assert [request for request in requests if not is_allowed(policies, request)] == []


def test_the_list_has_what_each_command_sends():
    """An oracle beside the recording: without one of these the tests that were recorded were not all of them."""
    made = {call.partition(" ")[2] for call in RECORDED["person"]}
    assert made >= {"CreateTrainingJob", "StopTrainingJob", "GetLogEvents", "ListServiceQuotas"}, "launch"
    assert made >= {"CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint", "CreateInferenceComponent"}, "deploy"
    assert made >= {"CreateTransformJob", "StopTransformJob"}, "batch"
    assert made >= {"CreateModelPackage", "DescribeModelPackage"}, "promote"
    assert "InvokeEndpoint" in made, "ask"


@pytest.mark.parametrize("operation", ["InvokeEndpointAsync"])
def test_what_only_rehearsals_in_processes_of_their_own_send_is_allowed_too(operation):
    for request in asked(f"sagemaker-runtime {operation}", {"EndpointName": "bins"}):
        assert is_allowed([OURS.policy("person")], request)


# What S3's API calls by their method, as the local server counts them, needs.
S3_ACTIONS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",  # a large object in parts
    "DELETE": "s3:DeleteObject",
    "LIST": "s3:ListBucket",
}


def test_all_that_is_done_with_folders_in_the_bucket_is_allowed_to_people_and_jobs(s3):
    folder = Folder("s3://bins/stocktake")
    folder.write("a.json", b"{}")
    folder.write("large", b"0" * (12 << 20))
    assert folder.read("a.json") == b"{}"
    assert folder.exists("a.json")
    folder.copy("a.json", "b.json")
    assert folder.names() == {"a.json", "b.json", "large"}
    folder.remove("a.json")
    sent = {method for method, count in s3.requests().items() if count and method.isupper()}
    assert sent >= {"GET", "PUT", "LIST"}
    for method in sent:
        action = S3_ACTIONS[method]
        arn = "arn:aws:s3:::bins" + ("" if method == "LIST" else "/stocktake/a.json")
        for whom in ("person", "job"):
            assert is_allowed([OURS.policy(whom)], Request(action, arn)), (whom, action)


@pytest.mark.parametrize("whom", ["person", "job"])
@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"])
def test_another_bucket_is_denied(whom, action):
    for bucket, allowed in [("bins", True), ("bins2", False), ("others", False)]:
        request = Request(action, f"arn:aws:s3:::{bucket}/any/key")
        assert is_allowed([OURS.policy(whom)], request) is allowed, bucket


@pytest.mark.parametrize("role", ["Admin", "stocktake-job-eu-west-1", "stocktake-job-us-east-1-of-others"])
@pytest.mark.parametrize("service", ["sagemaker", "scheduler"])
def test_another_role_is_not_given_to_a_service(role, service):
    request = Request("iam:PassRole", OURS.role_arn(role), {"iam:PassedToService": f"{service}.amazonaws.com"})
    for whom in ("person", "setup", "scheduler", "job"):
        assert not is_allowed([OURS.policy(whom)], request), whom


def test_a_role_is_given_to_its_own_service_alone():
    for role, service in [(OURS.job_role, "ec2"), (OURS.job_role, "scheduler"), (OURS.scheduler_role, "sagemaker")]:
        request = Request("iam:PassRole", OURS.role_arn(role), {"iam:PassedToService": f"{service}.amazonaws.com"})
        assert not is_allowed([OURS.policy("person")], request)


WITHOUT_TAGS = {"sagemaker:DeleteModelPackage"}  # a version in the registry has no tags of its own
CHANGES = re.compile(r"sagemaker:(Delete|Update|Stop|Invoke|AddTags)")


@pytest.mark.parametrize("tags", [{}, {"aws:ResourceTag/project": "others"}])
@pytest.mark.parametrize(
    "request_",
    [pair[1] for pair in PERSON + SETUP if CHANGES.match(pair[1].action) and pair[1].action not in WITHOUT_TAGS],
    ids=lambda each: each.action,
)
def test_what_has_not_the_projects_tag_is_neither_changed_nor_deleted(request_, tags):
    if "sagemaker:TaggingAction" in request_.context:
        return  # of a thing that is being made
    other = {key: value for key, value in request_.context.items() if key != "aws:ResourceTag/project"}
    for whom in ("person", "setup", "scheduler"):
        assert not is_allowed([OURS.policy(whom)], Request(request_.action, request_.resource, other | tags)), whom


@pytest.mark.parametrize("call", [call for call in RECORDED["person"] if call.startswith("sagemaker Create")])
def test_nothing_is_made_without_the_projects_tag(call):
    for request in asked(call, RECORDED["person"][call]):
        if (
            request.action.startswith("sagemaker:") and request.action != "sagemaker:CreateModelPackage"
        ):  # has none, either
            assert not is_allowed([OURS.policy("person")], Request(request.action, request.resource, {}))


def test_the_projects_tag_is_not_taken_away_nor_given_to_what_others_made():
    arn, policy = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/bins", OURS.policy("person")
    assert is_allowed([policy], Request("sagemaker:DeleteTags", arn, {**OWN, "aws:TagKeys": ["ends-at"]}))
    assert not is_allowed(
        [policy], Request("sagemaker:DeleteTags", arn, {**OWN, "aws:TagKeys": ["ends-at", "project"]})
    )
    taken = {"aws:RequestTag/project": "stocktake", "aws:TagKeys": ["project"]}
    assert not is_allowed([policy], Request("sagemaker:AddTags", arn, taken))


@pytest.mark.parametrize("request_", [pair[1] for pair in PERSON], ids=lambda each: each.action)
def test_another_account_is_denied_and_another_region_too(request_):
    for ours, other in [(ACCOUNT, "210987654321"), (f":{REGION}:", ":eu-west-1:")]:
        if ours in request_.resource and not re.search(r":(List|Describe)", request_.action):
            elsewhere = Request(request_.action, request_.resource.replace(ours, other), request_.context)
            assert not is_allowed([OURS.policy("person")], elsewhere)


def test_a_job_reads_its_secret_images_and_data_and_no_others():
    policy = OURS.policy("job")
    secret, images = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret", f"arn:aws:ecr:{REGION}"
    allowed = {
        f"{secret}:stocktake/wandb-AbCdEf": True,
        f"{secret}:prod/database-AbCdEf": False,
        f"{images}:{ACCOUNT}:repository/stocktake-serving": True,
        f"{images}:763104351884:repository/pytorch": True,
        f"{images}:763104351884:repository/pytorch-inference": True,
        f"{images}:{ACCOUNT}:repository/others": False,
    }
    for arn, is_own in allowed.items():
        action = "secretsmanager:GetSecretValue" if ":secret:" in arn else "ecr:BatchGetImage"
        assert is_allowed([policy], Request(action, arn)) is is_own, arn
    assert not is_allowed([policy], Request("sagemaker:CreateTrainingJob", "*"))
    read = Request("s3:GetObject", "arn:aws:s3:::photos/1.jpg")
    with_data = Account(PARTITION, REGION, ACCOUNT, set_bucket="bins", data_buckets=["photos"]).policy("job")
    assert (is_allowed([policy], read), is_allowed([with_data], read)) == (False, True)
    assert not is_allowed([with_data], Request("s3:PutObject", read.resource))


def test_a_job_may_use_its_key_and_network_where_that_is_typed():
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
    account = Account(PARTITION, REGION, ACCOUNT, kms_key=key, has_vpc=True)
    further = account.policy("job")
    assert is_allowed([account.policy("person")], Request("kms:GenerateDataKey", key)), (
        "the bucket is encrypted with it"
    )
    grant = {"kms:GrantIsForAWSResource": "true"}
    for request in [
        Request("kms:GenerateDataKeyWithoutPlaintext", key),
        Request("kms:CreateGrant", key, grant),
        Request("ec2:CreateNetworkInterface", "*"),
    ]:
        assert not is_allowed([OURS.policy("job")], request)
        assert is_allowed([further], request)
    assert not is_allowed([further], Request("kms:CreateGrant", key))


def test_the_bucket_denies_all_that_comes_without_tls():
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    for is_tls in ("true", "false"):
        request = Request("s3:GetObject", "arn:aws:s3:::bins/any", {"aws:SecureTransport": is_tls})
        assert is_allowed([everything, OURS.policy("bucket")], request) is (is_tls == "true")


def test_who_has_a_role_is_its_service_for_this_account_alone():
    for whom, service in [("job", "sagemaker"), ("scheduler", "scheduler")]:
        (statement,) = OURS.policy(f"{whom}_trust")["Statement"]
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


DOCUMENTS = sorted(path.stem for path in POLICIES.glob("*.json"))


def statements(whom: str) -> list[dict[str, Any]]:
    return OURS.document(whom, data_bucket="photos", kms_key=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1")["Statement"]


@pytest.mark.parametrize("whom", [name for name in DOCUMENTS if not name.endswith("_trust") and name != "bucket"])
def test_aws_knows_every_action_and_condition_and_the_resources_are_theirs(whom):
    for statement in statements(whom):
        actions, arns = (
            [each] if isinstance(each, str) else each for each in (statement["Action"], statement["Resource"])
        )
        for action in actions:
            service, _, name = action.partition(":")
            known = DATA.actions.get_actions_for_service(service)
            matching = [each for each in known if re.fullmatch(name.replace("*", ".*"), each)]
            assert matching, f"{action} is not known to AWS"
            for each in matching:
                details = DATA.actions.get_action_details(service, each)
                types = [
                    DATA.resources.get_resource_type_details(service, kind["name"])
                    for kind in details["resourceTypes"]
                    if DATA.resources.resource_type_exists(service, kind["name"])
                ]
                if not types:
                    assert "*" in arns, f"{action} is of no resource, and would never be allowed"
                keys = {*details["conditionKeys"], *(key for kind in types for key in kind.get("conditionKeys", ()))}
                keys |= {key for kind in details["resourceTypes"] for key in kind.get("conditionKeys", ())}
                stems = {re.sub(r"/.*", "", key) for key in keys}
                for operator in statement.get("Condition", {}).values():
                    assert {key.partition("/")[0] for key in operator} <= stems, f"{action}: {operator}"


def test_every_policy_is_smaller_than_what_aws_takes():
    sizes = {whom: len(re.sub(r"\s", "", json.dumps(OURS.policy(whom)))) for whom in PEOPLE}
    assert sizes["person"] <= 6144, "of a managed policy"
    assert sizes["setup"] <= 6144
    assert sizes["job"] <= 10240, "of a role's own"
