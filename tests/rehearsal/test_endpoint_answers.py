"""Real photos through every way to have them counted on AWS and off it: one model, the same P(count)."""

import json
import os
import pathlib
import time

import httpx
import numpy
import pytest
from hosted import Account, account
from served import serving
from untrained import write_checkpoint

from stocktake.cloud import endpoint_requests as requests
from stocktake.inference.sagemaker_endpoint import MAX_INLINE_BYTES
from stocktake.inference.torch_backend import TorchBackend
from stocktake.storage import StorageOptions
from stocktake.workflows.export import export

NUM_PHOTOS, NUM_ORIGINALS = 50, 6
TOLERANCE = 1e-4
KIND = "image/jpeg"
WAYS = ("realtime", "async", "batch", "local")


@pytest.fixture(scope="module")
def photos(abid_root) -> dict[str, bytes]:
    """JPEGs of 224 px by their ids, and some in full size, the largest among them, where those lie here."""
    paths = sorted((abid_root / "bin-images").glob("*.jpg"))
    originals = pathlib.Path(os.environ.get("ABID_ORIGINAL_ROOT", "nowhere"), "bin-images").glob("*.jpg")
    largest = sorted(originals, key=lambda path: path.stat().st_size)[-NUM_ORIGINALS:]
    chosen = {path.stem: path for path in [*paths[:: len(paths) // NUM_PHOTOS], *largest]}
    return {name: chosen[name].read_bytes() for name in list(chosen)[-NUM_PHOTOS:]}


@pytest.fixture(scope="module")
def checkpoint(compose, synthetic_root, tmp_path_factory) -> pathlib.Path:
    """A network that nobody trained, with the folder `model` that is exported from it."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("run"), synthetic_root)
    export(compose("export", f"checkpoint={checkpoint}", "num_checked=2", "num_baseline=2"))
    return checkpoint


@pytest.fixture(scope="module")
def in_pytorch_NK(checkpoint, photos) -> numpy.ndarray:
    backend = TorchBackend(str(checkpoint), StorageOptions(), batch_size=16, device="cpu")
    return numpy.array(
        [list((one.probabilities or {}).values()) for one in backend.predict([*photos], photos.__getitem__)]
    )


@pytest.fixture(scope="module")
def answers(checkpoint, photos, tmp_path_factory) -> dict[str, list[bytes]]:
    """What is answered to the photos, by the way that they went."""
    model, folder = checkpoint.parents[1] / "model", tmp_path_factory.mktemp("account")
    with account(folder) as there:
        there.create_model("bins", there.put_model("bins", model))
        found = {"realtime": at_once(there, photos), "async": later(there, photos), "batch": in_a_job(there, photos)}
    with serving(model, folder / "stderr") as served:
        found["local"] = [ask_locally(served.client, content) for content in photos.values()]
    return found


def at_once(there: Account, photos: dict[str, bytes]) -> list[bytes]:
    there.create("now", "bins", requests.instance_variant("bins", "ml.m5.large"))
    ask = there.runtime.invoke_endpoint
    found = [ask(EndpointName="now", Body=content, ContentType=KIND)["Body"].read() for content in photos.values()]
    there.sagemaker.delete_endpoint(EndpointName="now")
    return found


def later(there: Account, photos: dict[str, bytes]) -> list[bytes]:
    """Asks an asynchronous endpoint: what is too large to go along lies in S3."""
    there.create("later", "bins", requests.instance_variant("bins", "ml.m5.large"), async_output_url="s3://answers")
    (there.s3 / "large").mkdir()
    places = []
    for name, content in photos.items():
        sent = {"Body": content}
        if len(content) > MAX_INLINE_BYTES:
            (there.s3 / "large" / name).write_bytes(content)
            sent = {"InputLocation": f"s3://large/{name}"}
        told = there.runtime.invoke_endpoint_async(EndpointName="later", ContentType=KIND, **sent)
        places.append(there.s3 / told["OutputLocation"].removeprefix("s3://"))
    deadline = time.monotonic() + 60
    while not all(place.exists() for place in places):
        assert time.monotonic() < deadline, list((there.s3 / "answers").rglob("*error.out"))
        time.sleep(0.05)
    there.sagemaker.delete_endpoint(EndpointName="later")
    return [place.read_bytes() for place in places]


def in_a_job(there: Account, photos: dict[str, bytes]) -> list[bytes]:
    (there.s3 / "bins").mkdir()
    for name, content in photos.items():
        (there.s3 / "bins" / f"{name}.jpg").write_bytes(content)
    there.sagemaker.create_transform_job(**requests.transform_job("all", "bins", "s3://bins/", "s3://counted"))
    waiter = there.sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName="all", WaiterConfig={"Delay": 1})
    return [(there.s3 / "counted" / f"{name}.jpg.out").read_bytes() for name in photos]


def ask_locally(client: httpx.Client, content: bytes) -> bytes:
    return client.post("/invocations", content=content, headers={"Content-Type": KIND}).content


@pytest.mark.parametrize("way", WAYS)
def test_each_way_gives_what_pytorch_gives(answers, in_pytorch_NK, way):
    found_NK = numpy.array([list(json.loads(answer)["probabilities"].values()) for answer in answers[way]])
    assert found_NK.shape == in_pytorch_NK.shape == (NUM_PHOTOS, 5)
    numpy.testing.assert_allclose(found_NK, in_pytorch_NK, atol=TOLERANCE, rtol=0)


def test_the_photos_differ_and_so_do_their_answers(photos, in_pytorch_NK):
    """Else a network that sees nothing would agree as well."""
    assert len(set(photos.values())) == NUM_PHOTOS
    assert numpy.abs(in_pytorch_NK - in_pytorch_NK[0]).max(1)[1:].min() > TOLERANCE
    assert numpy.abs(in_pytorch_NK - in_pytorch_NK[0]).max() > 100 * TOLERANCE
