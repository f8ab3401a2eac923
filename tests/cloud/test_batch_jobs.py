"""What a batch job sends equals reviewed files, passes AWS's own models, and what AWS would refuse is told by its key.

REVIEW_WIRE=1 writes the files anew, for a person to read before they are kept.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from stocktake.cloud.batch_jobs import BatchJob
from stocktake.cloud.deployment import Call
from stocktake.cloud.deployment_checks import CONFIG_KEYS
from stocktake.cloud.endpoint_upkeep import made_for

WIRE = Path(__file__).parent / "wire"
PLAIN = BatchJob(
    name="night",
    role_arn="arn:aws:iam::123456789012:role/StocktakeServing",
    image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-serving@sha256:" + "0" * 64,
    instance_type="ml.c6i.large",
    num_instances=1,
    num_at_once=4,
    payload_mb=6,
)
PRIVATE = replace(
    PLAIN,
    instance_type="ml.c6i.2xlarge",
    num_instances=3,
    num_at_once=8,
    payload_mb=12,
    kms_key="arn:aws:kms:us-east-1:123456789012:key/1234abcd",
    network_isolation=True,
    environment={"OMP_NUM_THREADS": "1"},
    tags={"team": "bins"},
    subnets=["subnet-0a1b"],
    security_groups=["sg-0a1b"],
)
CASES = {"batch_folder": (PLAIN, False), "batch_manifest": (PRIVATE, True)}


def calls(job: BatchJob, is_manifest: bool = False) -> list[Call]:
    name = f"{job.stem('0' * 64, '1' * 64)}-1"
    folder = f"s3://bins/stocktake/endpoints/{job.name}"
    input_url = f"{folder}/{name}/input.manifest" if is_manifest else "s3://photos/shelf/"
    return job.calls(name, f"{folder}/012345/model.tar.gz", input_url, is_manifest, f"{folder}/{name}/answers")


@pytest.mark.parametrize("name", CASES)
def test_what_is_sent_equals_the_reviewed_file_and_aws_has_nothing_against_it(name):
    sent = calls(*CASES[name])
    assert [call.problems({}) for call in sent] == [[], []]
    plain = [[call.service, call.operation, call.request] for call in sent]
    file = WIRE / f"{name}.json"
    if os.environ.get("REVIEW_WIRE"):
        file.write_text(json.dumps(plain, indent=2) + "\n")
    assert plain == json.loads(file.read_text())


WRONG: dict[str, tuple[BatchJob, str]] = {
    "name with underscore": (replace(PLAIN, name="my_night"), "name"),
    "more at once than 100 MB": (replace(PLAIN, num_at_once=17), "batch.num_at_once"),
    "misspelt instance type": (replace(PLAIN, instance_type="ml.c6i.lage"), "instance_type"),
    "no instance": (replace(PLAIN, num_instances=0), "num_instances"),
    "no image": (replace(PLAIN, image_uri=""), "image_uri"),
    "a role of no account": (replace(PLAIN, role_arn="arn:aws:iam::12:role/Stocktake"), "role_arn"),
    "a key of 3,000 characters": (replace(PLAIN, kms_key="k" * 3000), "kms_key"),
    "17 subnets": (replace(PRIVATE, subnets=[f"subnet-{i}" for i in range(17)]), "subnets"),
    "a tag of AWS's": (replace(PLAIN, tags={"aws:team": "bins"}), "tags"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_aws_would_refuse_is_told_by_its_key(name):
    job, key = WRONG[name]
    found = [problem for call in calls(job) for problem in call.problems(CONFIG_KEYS)]
    assert found
    assert all(problem.startswith(f"{key} (") for problem in found), found


def test_how_many_are_allowed_at_once_is_told():
    (found,) = [problem for call in calls(replace(PLAIN, num_at_once=17)) for problem in call.problems(CONFIG_KEYS)]
    assert found.endswith("17 times MaxPayloadInMB=6 is more than 100 MB; 16 or fewer allowed")


def test_the_name_tells_model_and_images_apart_and_nothing_else():
    stem = PLAIN.stem("0" * 64, "1" * 64)
    equal = [replace(PLAIN, num_instances=4), replace(PLAIN, payload_mb=12), replace(PLAIN, tags={"team": "bins"})]
    assert {job.stem("0" * 64, "1" * 64) for job in equal} == {stem}
    others = [
        PLAIN.stem("2" * 64, "1" * 64),
        PLAIN.stem("0" * 64, "2" * 64),
        *(replace(PLAIN, **one).stem("0" * 64, "1" * 64) for one in ({"image_uri": "x"}, {"environment": {"A": "1"}})),
    ]
    assert len({stem, *others}) == 5


def test_the_model_of_a_job_is_no_endpoints():
    """An endpoint of the same name, deleted while the job runs, takes its own models along and no others."""
    assert not made_for("night", calls(PLAIN)[0].request["ModelName"])
