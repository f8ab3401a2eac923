"""A rehearsed account with models in its S3, and what the tests of its endpoints send again and again."""

import io
import pathlib
import tarfile
import time
from typing import Any

from botocore.config import Config
from served import export

from stocktake.cloud import endpoint_requests as requests
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.hosting import Hosting

ROLE = "arn:aws:iam::123456789012:role/Stocktake"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-serving:1"
ONE_TRY = Config(retries={"max_attempts": 1})


class Account:
    """boto3's clients of a rehearsal, and short words for what it takes to deploy.

    Attributes:
        s3: The folder that stands in for S3; a model of `served.export` lies in s3://models/good/model.tar.gz.
    """

    def __init__(self, server: RehearsalServer, hosting: Hosting, s3: pathlib.Path):
        self.server, self.hosting, self.s3 = server, hosting, s3
        self.sagemaker, self.runtime = server.client("sagemaker"), server.client("sagemaker-runtime", config=ONE_TRY)

    def put_model(self, name: str, folder: pathlib.Path) -> str:
        """Packs an exported model; returns its URL."""
        target = self.s3 / "models" / name
        target.mkdir(parents=True)
        with tarfile.open(target / "model.tar.gz", "w:gz") as archive:
            for path in folder.iterdir():
                archive.add(path, path.name)
        return f"s3://models/{name}/model.tar.gz"

    def create_model(self, name: str, url: str = "s3://models/good/model.tar.gz", **values: Any) -> None:
        self.sagemaker.create_model(**requests.model(name, ROLE, IMAGE, url, **values))

    def create_config(self, name: str, model: str, variant: dict | None = None, **values: Any) -> None:
        variant = variant or requests.instance_variant(model, "ml.m5.large")
        self.sagemaker.create_endpoint_config(**requests.endpoint_config(name, variant, **values))

    def create(self, name: str, model: str | None = None, variant: dict | None = None, **values: Any) -> None:
        """Creates a model and a configuration of the endpoint's name, and the endpoint; waits until it is there."""
        if model is None:
            self.create_model(name)
        self.create_config(name, model or name, variant, **values)
        self.sagemaker.create_endpoint(**requests.create_endpoint(name, name))
        assert self.wait(name)["EndpointStatus"] == "InService"

    def wait(self, name: str) -> dict:
        """Returns the description of an endpoint that is in no transition any more."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            seen = self.sagemaker.describe_endpoint(EndpointName=name)
            if seen["EndpointStatus"] in ("InService", "Failed"):
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{name} is still {seen['EndpointStatus']}")

    def delete(self, name: str) -> None:
        """Deletes an endpoint, waits until it is gone, and deletes its configuration and model."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        self.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1})
        self.sagemaker.delete_endpoint_config(EndpointConfigName=name)
        self.sagemaker.delete_model(ModelName=name)


def account(folder: pathlib.Path, **values: Any):
    """Yields an account whose minutes pass in milliseconds; for a fixture."""
    s3 = folder / "s3"
    with (
        Hosting(folder / "hosting", s3_folder=s3, time_scale=0.01, **values) as hosting,
        RehearsalServer(hosting=hosting) as server,
    ):
        there = Account(server, hosting, s3)
        model = folder / "model"
        model.mkdir()
        there.put_model("good", export(model))
        yield there


def archive_of(**files: bytes) -> bytes:
    """Returns a .tar.gz of files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
    return packed.getvalue()
