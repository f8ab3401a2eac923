"""scripts/rehearse.py scenario=deploy: from a training to an endpoint that is updated, rolled back and deleted.

All is real but AWS: the model, the server's processes behind the rehearsed endpoint, and the requests over HTTP.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.config import Config

from stocktake.cloud.batch_jobs import BatchJob, BatchJobs
from stocktake.cloud.deployment import Before, Endpoint, Update
from stocktake.cloud.deployment_outcome import send_all, settled
from stocktake.cloud.endpoints import Endpoints
from stocktake.cloud.model_archive import ARCHIVE_NAME, ModelArchive
from stocktake.data.batch_input import BatchInput
from stocktake.data.manifest import Manifest
from stocktake.inference.batch_transform import Transform
from stocktake.inference.sagemaker_endpoint import CONTENT_TYPE, SageMakerEndpoint
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.command import REPOSITORY, with_defaults
from stocktake.rehearsal.hosting import Hosting
from stocktake.rehearsal.s3_sync import opener
from stocktake.rehearsal.serving_image import clean_image
from stocktake.rehearsal.termination import run_child, unwinding
from stocktake.serving.model_folder import GRAPH_NAME, MODEL_NAME, parse_model
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder, StorageOptions
from stocktake.training.resume import read_config

NAME, BUCKET = "rehearsed", "rehearsal"
SHORTENED = ["trainer.max_epochs=1", "+trainer.limit_train_batches=12", "+trainer.limit_val_batches=2", "logger=csv"]
TIME_SCALE = 0.01  # AWS's minutes in seconds
STARTUP_S = 20.0  # for a server on this machine to answer /ping
REQUESTS_PER_S, NUM_PHOTOS, POLL_S = 20, 8, 0.2
MAX_DIFFERENCE = 1e-4  # of a probability, between ways to ask
ONE_TRY = Config(retries={"total_max_attempts": 1}, max_pool_connections=32)  # boto3 itself would ask again
ROLE = "arn:aws:iam::123456789012:role/Stocktake"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-serving:1"


@dataclass
class Load:
    """Requests that go on while something else is done.

    Attributes:
        failed: What was answered in the place of a count.
    """

    num_requests: int = 0
    failed: list[str] = field(default_factory=list)


class Deployment:
    """The rehearsed account with one endpoint.

    Args:
        s3: The folder that stands in for S3.
    """

    def __init__(self, server: RehearsalServer, s3: Path):
        self.server, self.open_folder, self.endpoints = server, opener(s3), Endpoints(server.client)
        self.sagemaker = server.client("sagemaker")
        self.runtime = server.client("sagemaker-runtime", config=ONE_TRY)

    def deploy(self, files: Mapping[str, bytes]) -> bool:
        """Deploys a model as scripts/deploy.py does; returns whether it was rolled back."""
        archive = ModelArchive.of(files)
        folder_url = f"s3://{BUCKET}/{NAME}/{archive.sha256[:12]}"
        self.open_folder(folder_url).write(ARCHIVE_NAME, archive.content)
        before = Before() if self.endpoints.describe(NAME) else None
        calls = ENDPOINT.calls(f"{folder_url}/{ARCHIVE_NAME}", datetime.now(UTC), before)
        send_all(self.endpoints, calls)
        outcome = settled(self.endpoints, NAME, calls, print, POLL_S)
        if outcome.is_rolled_back:
            print(f"Rolled back: {outcome.reason}")
        return outcome.is_rolled_back

    def invoke(self, content: bytes) -> dict[int, float]:
        """Asks by boto3 alone."""
        answered = self.runtime.invoke_endpoint(EndpointName=NAME, Body=content, ContentType=CONTENT_TYPE)
        return {int(count): p for count, p in json.loads(answered["Body"].read())["probabilities"].items()}

    @contextmanager
    def load(self, content: bytes):
        """Yields a Load, whose requests come REQUESTS_PER_S until the block ends."""
        load, is_over = Load(), threading.Event()

        def ask() -> None:
            load.num_requests += 1
            try:
                self.invoke(content)
            except Exception as error:  # whatever a client would see
                load.failed.append(f"{type(error).__name__}: {error}")

        def keep_asking() -> None:
            requests = []
            while not is_over.wait(1 / REQUESTS_PER_S):
                requests.append(threading.Thread(target=ask))
                requests[-1].start()
            for request in requests:
                request.join()

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            yield load
        finally:
            is_over.set()
            asking.join()

    def batch(self, files: Mapping[str, bytes], photos: Sequence[bytes]) -> list[dict[int, float]]:
        """Has photos counted as scripts/deploy.py target=batch does; returns P(count) of each."""
        model = parse_model(files[MODEL_NAME], MODEL_NAME)
        asked = self.open_folder(f"s3://{BUCKET}/asked")
        for number, content in enumerate(photos):
            asked.write(f"{number:03}.jpg", content)
        source = BatchInput.read(f"s3://{BUCKET}/asked", None, model["counts"], self.open_folder)
        transform = Transform(BATCH, ModelArchive.of(files), f"s3://{BUCKET}/{NAME}", self.open_folder)
        jobs, job = BatchJobs(self.server.client), f"{transform.stem(source)}-1"
        transform.begin(jobs, job, source)
        answers = transform.answers(jobs.wait(job, print, POLL_S), source, model)
        for one in answers.missing[:3]:
            print(one)
        there = [answer for answer in answers.probabilities if not isinstance(answer, str)]
        return [dict(zip(model["counts"], answer, strict=True)) for answer in there]

    def left_over(self) -> list[str]:
        """Returns what a listing of the account still shows."""
        listed = {
            "ModelName": self.sagemaker.list_models()["Models"],
            "EndpointConfigName": self.sagemaker.list_endpoint_configs()["EndpointConfigs"],
            "EndpointName": self.sagemaker.list_endpoints()["Endpoints"],
            "AlarmName": self.server.client("cloudwatch").describe_alarms()["MetricAlarms"],
            "Name": self.server.client("scheduler").list_schedules()["Schedules"],
        }
        return [one[name] for name, found in listed.items() for one in found]


ENDPOINT = Endpoint(
    name=NAME,
    target="realtime",
    role_arn=ROLE,
    image_uri=IMAGE,
    instance_type="ml.c6i.large",
    num_instances=1,
    memory_mb=2048,
    max_concurrency=5,
    ttl_h=1,
    scheduler_role_arn=ROLE,
    update=Update("canary", step_percent=25, wait_s=120, max_time_s=1800),
)
BATCH = BatchJob(NAME, ROLE, IMAGE, ENDPOINT.instance_type, ENDPOINT.num_instances, num_at_once=4, payload_mb=6)


def rehearse_deployment(train_overrides: Sequence[str], folder: str, is_full: bool, is_clean: bool) -> int:
    """Trains, exports, deploys, asks, updates, rolls back, counts a batch and deletes; returns the exit code.

    Args:
        folder: Holds a folder for each rehearsal.
        is_full: The whole training; else one of twelve steps.
        is_clean: The instances have what the Dockerfile's stage `serving` has, and nothing else of this Python.

    Raises:
        NoCleanPython: That could not be installed.
    """
    began = time.monotonic()
    root = Path(folder, time.strftime("%m%d-%H%M%S")).absolute()
    with unwinding():
        image = clean_image(root / "image") if is_clean else None
        model, photos = _exported(train_overrides, root, is_full)
        s3 = root / "s3"
        with (
            Hosting(root / "hosting", s3, time_scale=TIME_SCALE, startup_timeout_s=STARTUP_S, image=image) as hosting,
            RehearsalServer(hosting=hosting) as server,
        ):
            outcome = _play(Deployment(server, s3), model, photos)
    print(f"The rehearsal took {time.monotonic() - began:.0f} s; all of it is in {root}")
    print(json.dumps(outcome))
    return 0 if outcome["status"] == "Completed" else 1


def _exported(train_overrides: Sequence[str], root: Path, is_full: bool) -> tuple[Path, list[bytes]]:
    """Trains and exports; returns the exported model's folder, and photos that it has not seen.

    Raises:
        SystemExit: One of the two ended with an error, which it has told.
    """
    run = root / "run"
    overrides = with_defaults(train_overrides, [] if is_full else SHORTENED)
    train = ["train.py", *overrides, f"hydra.run.dir={run}"]
    export = ["scripts/export.py", f"checkpoint={run}/checkpoints/best.ckpt"]
    for script, *arguments in (train, export):
        if returncode := run_child([sys.executable, str(REPOSITORY / script), *arguments]):
            sys.exit(returncode)
    config = read_config(run)
    assert config is not None  # which the training has written
    data = Folder(config["data"]["root"], StorageOptions())
    keys = Manifest.read(data).rows("test")["key"].to_pylist()
    return run / "model", [data.read(key) for key in keys[:NUM_PHOTOS]]


def _play(deployment: Deployment, model: Path, photos: Sequence[bytes]) -> dict[str, Any]:
    files = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    updated = files | {"README.md": files.get("README.md", b"") + b"\n"}  # another archive of the same network
    broken = files | {GRAPH_NAME: files[GRAPH_NAME][:-1]}  # which never answers /ping

    print("Deploys the model:")
    deployment.deploy(files)
    predictor = Predictor.open(str(model))
    local = [{int(count): p for count, p in predictor.predict(photo).probabilities.items()} for photo in photos]
    asked = SageMakerEndpoint(NAME, deployment.runtime, deployment.sagemaker, StorageOptions(), timeout_s=60)
    asked.check()
    differences = [_difference(map(deployment.invoke, photos), local), _difference(map(asked.count, photos), local)]

    print("Updates it, and then with a model that is broken, while it is asked:")
    with deployment.load(photos[0]) as load:
        is_updated = not deployment.deploy(updated)
        rolled_back = deployment.deploy(broken)
    print(f"{load.num_requests} requests meanwhile, {len(load.failed)} failed.", *load.failed[:3], sep="\n")
    differences.append(_difference(map(deployment.invoke, photos), local))

    differences.append(_difference(deployment.batch(files, photos), local))
    deployment.endpoints.delete(NAME, print, POLL_S)
    left_over = deployment.left_over()
    well = is_updated and rolled_back and not load.failed and not left_over and max(differences) <= MAX_DIFFERENCE
    return {
        "status": "Completed" if well else "Failed",
        "num_requests": load.num_requests,
        "failed_requests": len(load.failed),
        "rolled_back": rolled_back,
        "max_difference": max(differences),
        "left_over": left_over,
    }


def _difference(answers: Any, expected: Sequence[Mapping[int, float]]) -> float:
    """Returns the largest difference of a probability; 1 where an answer is missing."""
    found = list(answers)
    if len(found) != len(expected):
        return 1.0
    return max(abs(one[count] - other[count]) for one, other in zip(found, expected, strict=True) for count in other)
