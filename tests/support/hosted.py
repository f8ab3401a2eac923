"""A rehearsed account with models in its S3, and what the tests of its endpoints send again and again."""

import hashlib
import json
import pathlib
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy
import onnx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from onnx import helper, numpy_helper
from served import export, gray_image

from stocktake.cloud import endpoint_requests as requests
from stocktake.cloud.deployment import Endpoint
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.hosting import Hosting

ROLE = "arn:aws:iam::123456789012:role/Stocktake"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-serving:1"
ENDPOINT = Endpoint(
    name="bins",
    target="realtime",
    role_arn=ROLE,
    image_uri=IMAGE,
    instance_type="ml.c6i.large",
    num_instances=1,
    memory_mb=1024,
    max_concurrency=5,
    ttl_h=1,
    scheduler_role_arn=ROLE,
)
ONE_TRY = Config(retries={"total_max_attempts": 1}, max_pool_connections=16)


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    """Returns the code and the message with which a call is refused."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    return raised.value.response["Error"]["Code"], raised.value.response["Error"]["Message"]


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

    def left_over(self) -> dict[str, list]:
        """Returns all that the account's listings still show, by what they call it."""
        scaling, scaled = self.server.client("application-autoscaling"), {"ServiceNamespace": "sagemaker"}
        listings = [
            *(self.sagemaker.list_models(), self.sagemaker.list_endpoint_configs(), self.sagemaker.list_endpoints()),
            self.server.client("cloudwatch").describe_alarms(),
            self.server.client("scheduler").list_schedules(),
            *(scaling.describe_scalable_targets(**scaled), scaling.describe_scaling_policies(**scaled)),
        ]
        lists = [(kind, found) for listing in listings for kind, found in listing.items() if isinstance(found, list)]
        return {kind: found for kind, found in lists if found}

    def delete(self, name: str) -> None:
        """Deletes an endpoint, waits until it is gone, and deletes its configuration and model."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        self.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1})
        self.sagemaker.delete_endpoint_config(EndpointConfigName=name)
        self.sagemaker.delete_model(ModelName=name)


@contextmanager
def account(folder: pathlib.Path, **values: Any) -> Iterator[Account]:
    """Opens an account whose minutes pass in half a second."""
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


def export_failing(folder: pathlib.Path, answers_ping: bool) -> pathlib.Path:
    """Writes an exported model that opens, and then fails on all images: on the 64 x 64 px of /ping too, or not."""
    export(folder)
    model = onnx.load(folder / "model.onnx")
    # Pixels in rows of so many: the 32 x 48 of the server's start fill them, those of an image that is sent do not.
    num_pixels = 512 if answers_ping else 1536
    rows = numpy_helper.from_array(numpy.array([-1, num_pixels, 3]), "rows")
    model.graph.initializer.append(rows)
    model.graph.node[0].input[0] = "in_rows"
    model.graph.node.insert(0, helper.make_node("Reshape", ["pixels", "rows"], ["in_rows"]))
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    facts = json.loads((folder / "model.json").read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    (folder / "model.json").write_text(json.dumps(facts))
    return folder


class Load:
    """Asks an endpoint so many times a second while its block lasts; `failures` says what went wrong.

    Each request is sent when it is due, while no more than 16 are under way.
    """

    def __init__(self, there: Account, endpoint: str, per_s: float = 20):
        self.there, self.endpoint, self.interval_s = there, endpoint, 1 / per_s
        self.num_sent, self.num_answers, self.failures, self.versions = 0, 0, [], []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _send(self):
        with ThreadPoolExecutor(16) as pool:
            due = time.monotonic()
            while not self._ended.is_set():
                pool.submit(self._ask)
                self.num_sent += 1
                due += self.interval_s
                self._ended.wait(max(0, due - time.monotonic()))

    def _ask(self):
        try:
            answer = self.there.runtime.invoke_endpoint(EndpointName=self.endpoint, Body=gray_image())
            self.versions.append(json.loads(answer["Body"].read())["model_version"])
            self.num_answers += 1
        except Exception as error:
            self.failures.append(error)
