"""terraform/ makes what `scripts/aws.py action=setup` makes.

Terraform itself evaluates the policies here, where it is installed. `terraform validate` wants AWS's provider, which is
fetched from Terraform's registry: that is not run here.
"""

import json
import pathlib
import re
import shutil
import subprocess
from typing import Any

import hcl2
import pytest

from stocktake.cloud.account import Account
from stocktake.cloud.account_parts import ALARMS_PERCENT, DAYS_OF_BROKEN_UPLOADS, DAYS_OF_UNTAGGED_IMAGES, parts

REPOSITORY = pathlib.Path(__file__).parents[1]
MODULE = REPOSITORY / "terraform"
TERRAFORM = shutil.which("terraform")
needs_terraform = pytest.mark.skipif(TERRAFORM is None, reason="no terraform on the PATH")
KEY = "arn:aws:kms:us-east-1:123456789012:key/1"
BARE = Account("aws", "us-east-1", "123456789012", budget_usd=10.0, budget_email="me@example.com")
FULL = Account("aws", "us-east-1", "123456789012", kms_key=KEY, has_vpc=True, data_buckets=["photos", "more"])
# What stands for the account that Terraform would ask.
ASKED = {
    "data.aws_caller_identity.this.account_id": '"123456789012"',
    "data.aws_partition.this.partition": '"aws"',
    "data.aws_region.this.region": '"us-east-1"',
    '"${path.module}/..': f'"{REPOSITORY}',
}
OUTPUTS = """
output "job" { value = local.job_policy }
output "person" { value = local.person_policy }
output "job_trust" { value = templatefile("${local.policies}/job_trust.json", local.names) }
output "scheduler" { value = templatefile("${local.policies}/scheduler.json", local.names) }
output "scheduler_trust" { value = templatefile("${local.policies}/scheduler_trust.json", local.names) }
output "bucket" { value = templatefile("${local.policies}/bucket.json", local.names) }
"""


def terraform(folder: pathlib.Path, *words: str) -> str:
    done = subprocess.run([str(TERRAFORM), f"-chdir={folder}", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_terraform
def test_it_is_written_as_terraform_writes_it():
    terraform(MODULE, "fmt", "-check", "-diff")


@needs_terraform
@pytest.mark.parametrize(
    ("account", "variables"),
    [(BARE, {}), (FULL, {"kms_key": KEY, "vpc": True, "data_buckets": ["photos", "more"]})],
    ids=["bare", "full"],
)
def test_the_policies_that_terraform_makes_are_those_of_setup(account, variables, tmp_path):
    text = (MODULE / "main.tf").read_text()
    (names,) = re.findall(r"^locals \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    for asked, value in ASKED.items():
        assert asked in names
        names = names.replace(asked, value)
    (tmp_path / "main.tf").write_text(names + OUTPUTS)
    shutil.copy(MODULE / "variables.tf", tmp_path)
    given = {"budget_email": "me@example.com", **variables}
    (tmp_path / "terraform.tfvars.json").write_text(json.dumps(given))
    terraform(tmp_path, "init", "-input=false")
    terraform(tmp_path, "apply", "-auto-approve", "-input=false")
    made = {
        whom: json.loads(output["value"]) for whom, output in json.loads(terraform(tmp_path, "output", "-json")).items()
    }
    assert made == {whom: account.policy(whom) for whom in made}


def resources() -> dict[str, Any]:
    """Returns the module's resources by `type.name`."""
    blocks = hcl2.loads((MODULE / "main.tf").read_text())["resource"]
    return {
        f"{kind}.{name}": body for block in unquoted(blocks) for kind, of in block.items() for name, body in of.items()
    }


def unquoted(value: Any) -> Any:
    if isinstance(value, str):
        return value[1:-1] if re.fullmatch(r'"[^"]*"', value) else value
    if isinstance(value, list):
        return [unquoted(item) for item in value]
    if isinstance(value, dict):
        return {unquoted(key): unquoted(item) for key, item in value.items()}
    return value


def test_its_resources_are_the_parts_of_setup():
    made, planned = resources(), parts(BARE, has_secret=False, has_budget=True)
    kinds = {
        "bucket": "aws_s3_bucket.this",
        "role": "aws_iam_role",
        "image repository": "aws_ecr_repository.this",
        "budget": "aws_budgets_budget.this",
    }
    for part in planned:
        assert any(name.startswith(kinds[part.kind]) for name in made), part.title
    assert {name for name in made if name.startswith("aws_iam_role.")} == {"aws_iam_role.job", "aws_iam_role.scheduler"}
    tagged = [
        name for name in made if re.match(r"aws_(s3_bucket|iam_role|iam_policy|ecr_repository|budgets_budget)\.", name)
    ]
    assert {made[name]["tags"] for name in tagged} == {"${local.tags}"}
    assert len(tagged) == 6


def test_its_settings_are_those_of_setup():
    made = resources()
    operations = {
        call.operation: call.request for part in parts(BARE, False, True) for s in part.settings for call in s.write
    }
    rules = {rule["id"]: rule for rule in made["aws_s3_bucket_lifecycle_configuration.this"]["rule"]}
    wanted = {
        rule["ID"]: rule for rule in operations["PutBucketLifecycleConfiguration"]["LifecycleConfiguration"]["Rules"]
    }
    assert set(rules) == set(wanted)
    for name, rule in wanted.items():
        assert rules[name]["filter"][0]["prefix"] == rule["Filter"]["Prefix"]
    (upload,) = rules["broken-uploads"]["abort_incomplete_multipart_upload"]
    assert upload["days_after_initiation"] == DAYS_OF_BROKEN_UPLOADS
    block = made["aws_s3_bucket_public_access_block.this"]
    assert [value for key, value in block.items() if key.startswith(("block_", "ignore_", "restrict_"))] == [True] * 4
    assert f"countNumber = {DAYS_OF_UNTAGGED_IMAGES}" in (MODULE / "main.tf").read_text()
    (notification,) = made["aws_budgets_budget.this"]["dynamic"]
    alarms = [f'["{kind}", {percent}]' for kind, percents in ALARMS_PERCENT.items() for percent in percents]
    assert f"for_each = [{', '.join(alarms)}]" in (MODULE / "main.tf").read_text()
    assert notification


def test_its_variables_begin_as_the_keys_of_setup_do(compose):
    variables = unquoted(hcl2.loads((MODULE / "variables.tf").read_text())["variable"])
    defaults = {name: body["default"] for block in variables for name, body in block.items()}
    own = compose("aws")
    assert {name: defaults[name] for name in ("name", "checkpoint_days", "budget_usd", "vpc")} == {
        name: own[name] for name in ("name", "checkpoint_days", "budget_usd", "vpc")
    }
