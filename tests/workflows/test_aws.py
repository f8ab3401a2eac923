"""scripts/aws.py against local servers: a bare account, set up twice, looked at, cleared; and who may not do it."""

import json
import pathlib
import sys

import httpx
import pytest
from aws_services import Services, aws_services

KEY = "0123456789abcdef0123456789abcdef01234567"  # nobody's
MAIL = "budget_email=me@example.com"
BUCKET = "stocktake-123456789012-us-east-1"
OWN = {"project": "stocktake"}


@pytest.fixture
def services(tmp_path, monkeypatch) -> Services:
    for name in ("STOCKTAKE_BUCKET", "STOCKTAKE_ROLE", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with aws_services(tmp_path) as found:
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def aws(run_script, capsys):
    """Returns what types scripts/aws.py and gives its exit code, its output and its summary."""

    def type_(*words: str) -> tuple[int, str, dict]:
        code = run_script("aws.py", *words)
        shown = capsys.readouterr()
        output = shown.out + shown.err
        last = shown.out.rstrip().rpartition("\n")[2]
        return code, output, json.loads(last) if last.startswith("{") and last.endswith("}") else {}

    return type_


def test_a_bare_account_is_set_up_once_and_cleared(services, aws):
    code, output, summary = aws("action=check", MAIL)
    assert code == 1
    assert f"missing bucket {BUCKET}" in output
    assert f"python scripts/aws.py action=setup {MAIL}" in output

    code, output, summary = aws("action=setup", MAIL, "yes=true")
    assert code == 0, output
    assert f"make    bucket {BUCKET} (0.023 USD a GB and month): encrypted; private; without ACLs; TLS only" in output
    assert f"export STOCKTAKE_BUCKET={BUCKET}" in output
    assert "export STOCKTAKE_ROLE=arn:aws:iam::123456789012:role/stocktake-job-us-east-1" in output
    assert (summary["make"], summary["change"], summary["stays"]) == (7, 0, 0)

    code, output, summary = aws("action=setup", MAIL)  # nobody to ask, and nothing to ask
    assert code == 0, output
    assert (summary["make"], summary["change"], summary["stays"]) == (0, 0, 7)
    assert "Nothing was changed." in output
    assert aws("action=check", MAIL)[0] == 0

    services.client("s3").put_object(Bucket=BUCKET, Key="stocktake/models/model.tar.gz", Body=b"0" * 2000)
    code, output, summary = aws("action=teardown", "yes=true")
    assert code == 0, output
    assert f"bucket {BUCKET} with 1 objects" in output
    assert "nothing of this project is left" in output
    assert summary["left"] == []
    assert services.client("s3").list_buckets()["Buckets"] == []
    assert services.client("iam").list_roles()["Roles"] == []
    assert services.client("ecr").describe_repositories()["repositories"] == []
    assert services.client("budgets").describe_budgets(AccountId=services.account_id)["Budgets"] == []
    tagged = services.client("resourcegroupstaggingapi").get_resources(TagFilters=[{"Key": "project"}])
    assert tagged["ResourceTagMappingList"] == []
    code, output, _ = aws("action=teardown", "yes=true")
    assert (code, "Nothing of this project is in account 123456789012" in output) == (0, True)


def test_the_bucket_is_private_encrypted_and_forgets_checkpoints(services, aws):
    aws("action=setup", MAIL, "yes=true", "checkpoint_days=9")
    s3 = services.client("s3")
    (rule,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    rules = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]}
    assert rules["old-checkpoints"]["Expiration"]["Days"] == 9
    assert rules["old-checkpoints"]["Filter"] == {"Prefix": "stocktake/checkpoints/"}
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_what_somebody_changed_is_changed_back_and_nothing_else(services, aws):
    aws("action=setup", MAIL, "yes=true")
    role, budget = "stocktake-job-us-east-1", {"AccountId": services.account_id, "BudgetName": "stocktake-us-east-1"}
    more = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    budgets, iam = services.client("budgets"), services.client("iam")
    services.client("s3").delete_public_access_block(Bucket=BUCKET)
    iam.put_role_policy(RoleName=role, PolicyName="job", PolicyDocument=json.dumps(more))
    services.client("ecr").delete_lifecycle_policy(repositoryName="stocktake-serving")
    alarm = budgets.describe_notifications_for_budget(**budget)["Notifications"][0]
    budgets.delete_notification(**budget, Notification=alarm)
    code, output, _ = aws("action=check", MAIL)
    assert code == 1
    differing = [line.split(": ")[0].split(maxsplit=1)[1] for line in output.splitlines() if line.startswith("differs")]
    assert differing == [
        *(f"bucket {BUCKET}", f"role {role}", "image repository stocktake-serving", "budget stocktake-us-east-1"),
    ]
    code, output, summary = aws("action=setup", MAIL, "yes=true")
    assert (code, summary["make"], summary["change"], summary["stays"]) == (0, 0, 4, 3)
    assert f"change  bucket {BUCKET}: private\n" in output
    assert aws("action=setup", MAIL)[2]["stays"] == 7


def test_another_mail_address_for_the_budget_is_noticed(services, aws):
    aws("action=setup", MAIL, "yes=true")
    _, output, summary = aws("action=setup", "budget_email=you@example.com", "yes=true")
    assert summary["change"] == 1
    assert "change  budget stocktake-us-east-1: mail to you@example.com" in output


def test_the_key_of_wandb_is_read_from_standard_input_and_never_shown(services, aws, monkeypatch, tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")

    def typed(*words):
        with file.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            return aws(*words)

    code, output, summary = typed("action=setup", MAIL, "wandb_key=ask", "yes=true")
    assert code == 0, output
    assert summary["make"] == 8
    assert KEY not in output
    secrets = services.client("secretsmanager")
    assert secrets.get_secret_value(SecretId="stocktake/wandb")["SecretString"] == KEY
    assert typed("action=setup", MAIL, "wandb_key=ask")[2]["stays"] == 8
    file.write_text(KEY[::-1])
    _, output, summary = typed("action=setup", MAIL, "wandb_key=replace", "yes=true")
    assert summary["change"] == 1
    assert KEY[::-1] not in output
    assert secrets.get_secret_value(SecretId="stocktake/wandb")["SecretString"] == KEY[::-1]
    file.write_text("")
    code, output, _ = typed("action=setup", MAIL, "wandb_key=replace", "yes=true")
    assert code == 1
    assert "No key of W&B came" in output
    assert typed("action=teardown", "yes=true")[0] == 0
    assert secrets.list_secrets()["SecretList"] == []


def test_what_runs_goes_first_and_what_refuses_to_go_is_named(services, aws):
    aws("action=setup", MAIL, "yes=true")
    services.begin_training("resnet50-0101", OWN)
    services.begin_training("somebody-elses", {})
    iam, role = services.client("iam"), "stocktake-job-us-east-1"
    iam.create_instance_profile(InstanceProfileName="held")
    iam.add_role_to_instance_profile(InstanceProfileName="held", RoleName=role)

    code, output, summary = aws("action=check", MAIL)
    assert (code, summary["endless"]) == (0, [])
    assert "runs    training job resnet50-0101: since " in output

    code, output, summary = aws("action=teardown", "yes=true", "poll_s=0.01")
    assert code == 1
    assert summary["left"] == [f"role {role}"]
    assert f"Refuses to go: role {role}: DeleteRole: " in output
    assert output.index("resnet50-0101: Stopped") < output.index(f"Deleted: bucket {BUCKET}")
    states = {job.name: job.describe()["TrainingJobStatus"] for job in services.server.jobs.all()}
    assert states == {"resnet50-0101": "Stopped", "somebody-elses": "InProgress"}

    iam.remove_role_from_instance_profile(InstanceProfileName="held", RoleName=role)
    code, output, summary = aws("action=teardown", "yes=true")
    assert (code, summary["left"]) == (0, [])


def test_an_endpoint_without_an_end_is_listed_and_deleted_with_all_that_belongs_to_it(services, aws, tmp_path):
    from hosted import ROLE, Account, requests
    from served import export

    there = Account(services.server, services.hosting, tmp_path / "s3")
    model = tmp_path / "model"
    model.mkdir()
    there.put_model("good", export(model))
    there.create("bins")
    code, output, summary = aws("action=check", "budget_usd=null")
    assert code == 1
    assert summary["endless"] == ["endpoint bins: InService, no planned end"]
    assert "To delete it: python scripts/deploy.py action=delete name=bins" in output
    of_others = requests.model("of-others", ROLE, "image", "s3://models/good/model.tar.gz") | {"Tags": []}
    there.sagemaker.create_model(**of_others)
    for group, tags in (("counters", requests.tag_list(None)), ("others", [])):
        there.sagemaker.create_model_package_group(ModelPackageGroupName=group, Tags=tags)
    version = {"Image": "image", "ModelDataUrl": "s3://models/good/model.tar.gz"}
    there.sagemaker.create_model_package(
        ModelPackageGroupName="counters",
        InferenceSpecification={"Containers": [version], "SupportedContentTypes": [], "SupportedResponseMIMETypes": []},
    )
    code, output, summary = aws("action=teardown", "yes=true", "poll_s=0.05")
    assert (code, summary["left"]) == (0, []), output
    assert "Deleted: DeleteEndpoint(bins)" in output
    assert [model["ModelName"] for model in there.sagemaker.list_models()["Models"]] == ["of-others"]
    assert there.sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    groups = there.sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    assert [group["ModelPackageGroupName"] for group in groups] == ["others"]


def test_what_others_made_under_the_same_name_is_left_alone(services, aws):
    services.client("s3").create_bucket(Bucket=BUCKET)
    code, output, _ = aws("action=setup", MAIL, "yes=true")
    assert code == 1
    assert (
        "no tag project=stocktake. If it is yours to be changed and deleted, type: aws s3api put-bucket-tagging"
        in output
    )
    assert services.client("iam").list_roles()["Roles"] == []
    code, output, _ = aws("action=teardown", "yes=true")
    assert code == 0
    assert f"Stays: bucket {BUCKET}" in output
    assert len(services.client("s3").list_buckets()["Buckets"]) == 1


def test_quotas_by_their_names_with_what_asks_for_more(services, aws):
    services.account.quotas = {"ml.g5.xlarge for training job usage": 4, "ml.g5.xlarge for spot training job usage": 1}
    _, output, summary = aws("action=check", MAIL)
    assert "ok      ml.g5.xlarge for training job usage: 4, 2 wanted" in output
    assert "few     ml.g5.xlarge for spot training job usage: 1, 2 wanted. Ask for more (hours to days): "
    assert "aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code L-" in output
    assert "--desired-value 2 --region us-east-1" in output
    assert "ml.g5.xlarge for spot training job usage" in summary["few"]
    assert "few     ml.c6i.large for endpoint usage: 1 wanted, and AWS lists no such quota" in output


def test_who_may_not_look_is_told_in_one_line_what_to_ask_for(services, aws):
    services.account.errors["ListServiceQuotas"] = (400, "AccessDeniedException", "User me is not authorized")
    _, output, _ = aws("action=check", MAIL)
    (line,) = [line for line in output.splitlines() if "User me" in line]
    assert line.startswith("unknown quotas: ListServiceQuotas: User me is not authorized (AccessDeniedException).")
    assert line.endswith("Ask for what this prints: python scripts/aws.py action=policy whom=setup")


def test_the_account_that_was_meant_is_the_only_one(services, aws):
    code, output, _ = aws("action=setup", MAIL, "account=210987654321", "yes=true")
    assert code == 1
    assert "account=210987654321, but these credentials are of account 123456789012" in output
    assert services.client("s3").list_buckets()["Buckets"] == []


def test_nobody_is_there_to_be_asked(services, aws):
    code, output, _ = aws("action=setup", MAIL)
    assert code == 1
    assert "Make and change this in account 123456789012? Nobody is here to be asked. Type yes=true" in output
    assert services.client("s3").list_buckets()["Buckets"] == []


@pytest.fixture
def offline(monkeypatch):
    for name in ("STOCKTAKE_BUCKET", "STOCKTAKE_ROLE", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_a_dry_run_shows_every_request_in_every_partition_without_an_account(aws, offline, region, partition):
    code, output, _ = aws("action=setup", "dry_run=true", MAIL, "wandb_key=ask", f"region={region}")
    assert code == 0
    assert f'"LocationConstraint": "{region}"' in output
    assert f"arn:{partition}:s3:::stocktake-000000000000-{region}/*" in output
    assert ("arn:aws:" in output) == (partition == "aws")
    assert ("budgets CreateBudget" in output) == (partition != "aws-us-gov")
    assert '"SecretString": "***"' in output
    assert output.rstrip().endswith("Checked against AWS's service models. Nothing was sent.")
    assert "Before it can be made" not in output


def test_a_policy_alone_is_printed(aws, offline, run_script, capsys):
    assert run_script("aws.py", "action=policy", "account=123456789012", "whom=person", "region=eu-west-1") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["Version"] == "2012-10-17"
    assert len(json.dumps(document, separators=(",", ":"))) < 6144, "AWS's limit of a managed policy"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["action=setup", "dry_run=true"], "budget_email is not set"),
        (["action=check", "dry_run=true"], "action=check is nothing without one"),
        (["action=policy", "region=mars-north-1"], "region=mars-north-1 is none that boto3 knows"),
        (["action=policy", "bucket=My_Bucket"], "bucket: 'My_Bucket' is no bucket's name"),
        (["action=policy", "kms_key=alias/mine"], "kms_key=alias/mine is no ARN of a key"),
        (["action=policy", f"wandb_key={KEY}"], "wandb_key takes one of none, ask, replace"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_type(aws, offline, words, told):
    _, output, _ = aws(*words)
    assert told in output


def test_the_instances_whose_quotas_are_looked_at_are_those_of_the_configurations(compose):
    from omegaconf import OmegaConf

    own = compose("aws")
    conf = pathlib.Path(__file__).parents[2] / "conf"
    assert own.training_types == OmegaConf.load(conf / "compute/on_demand.yaml").instance_types
    assert own.endpoint_types == [OmegaConf.load(conf / "deploy/endpoint.yaml").instance_type]


@pytest.fixture
def nothing_allowed(services, monkeypatch):
    """Credentials that may do nothing, which moto enforces. It looks at no resources, so no policy is tried with it."""
    iam, url = services.client("iam"), services.environment()["AWS_ENDPOINT_URL_IAM"]
    iam.create_user(UserName="me")
    key = iam.create_access_key(UserName="me")["AccessKey"]

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    httpx.post(f"{url}/moto-api/reset-auth", content=b"0")
    yield
    httpx.post(f"{url}/moto-api/reset-auth", content=b"inf")


def test_who_may_do_nothing_is_told_for_each_part_what_to_ask_for(nothing_allowed, aws):
    code, output, _ = aws("action=setup", MAIL, "yes=true")
    assert code == 1
    blocked = [line for line in output.splitlines() if line.startswith("blocked ")]
    assert len(blocked) == 7
    assert {line.rpartition(". ")[2] for line in blocked} == {
        "Ask for what this prints: python scripts/aws.py action=policy whom=setup"
    }
    assert "Nothing was done, because 7 lines above begin with blocked." in output
