"""What goes into AWS's own inference image, run where only that and what its requirements.txt names is to be had."""

import base64
import importlib.metadata
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from served import COUNTS, export, gray_image, listening

from stocktake.cloud.inference_image import NEEDED, aws_image_problems, code_files, inference_image, with_aws_image
from stocktake.cloud.model_archive import ModelArchive
from stocktake.cloud.training_images import ACCOUNTS
from stocktake.serving.app import create_app
from stocktake.serving.predictor import Predictor

# What the toolkit and TorchServe do: the handler's module by its name, a request's headers and its answer's status.
ASKS = """
import base64, importlib, json, sys
model, *sys.path[:] = sys.argv[1:] + sys.path
class Context:
    def __init__(self, headers):
        self.headers, self.status = headers, [200, ""]
    def get_all_request_header(self, idx):
        return self.headers
    def set_response_status(self, code=200, phrase="", idx=0):
        self.status = [code, phrase]
handler = importlib.import_module("inference")
loaded = handler.model_fn(model)
for body, content_type, headers in json.load(sys.stdin):
    context, body = Context(headers), base64.b64decode(body)
    if content_type == "application/json":
        body = body.decode()
    answer = handler.transform_fn(loaded, body, content_type, "application/json", context)
    print(json.dumps([*context.status, json.loads(answer)]))
files = {name: module.__file__ for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print(json.dumps(files))
"""
IN_BASE64 = base64.b64encode(gray_image(80)).decode()
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
# Body, type, further headers, and the status that it has in our own server, too.
REQUESTS: list[tuple[bytes, str | None, dict, int]] = [
    (gray_image(130, "JPEG"), "application/x-image", {"Content-Length": "1", "body": {"content-type": "x"}}, 200),
    (gray_image(130), None, {ATTRIBUTES: "expected_count=4"}, 200),
    (json.dumps({"image": IN_BASE64, "expected_count": 3}).encode(), "application/json", {}, 200),
    (b"no image", "image/jpeg", {}, 422),
    (b"", "image/jpeg", {}, 400),
    (b"{}", "application/json", {}, 400),
    (b'{"s3_key": "s3://bins/a.jpg"}', "application/json", {}, 403),
    (gray_image(), "text/plain", {}, 415),
    (gray_image(), "image/png", {ATTRIBUTES: "expected_count=9"}, 400),
    (bytes(6 * 2**20 + 1), "image/png", {}, 413),
]


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> ModelArchive:
    model = export(tmp_path_factory.mktemp("model"))
    return ModelArchive.of({path.name: path.read_bytes() for path in model.iterdir()} | code_files())


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory) -> Path:
    """The image's /opt/ml/model."""
    folder = tmp_path_factory.mktemp("opt-ml-model")
    with tarfile.open(fileobj=io.BytesIO(packed.content)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def installed(unpacked, tmp_path_factory) -> Path:
    """A site-packages with what requirements.txt names, and the numpy of the image."""
    folder = tmp_path_factory.mktemp("site-packages")
    lines = (unpacked / "code" / "requirements.txt").read_text().splitlines()
    for name in ["numpy", *(line.partition("==")[0] for line in lines if "==" in line)]:
        distribution = importlib.metadata.distribution(name)
        for top in {Path(file).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


@pytest.fixture(scope="module")
def answers(unpacked, installed) -> tuple[list, dict[str, str]]:
    """[status, phrase, JSON] of each of REQUESTS, and the file of each module that was imported."""
    asked = [(base64.b64encode(body).decode(), kind, headers) for body, kind, headers, _ in REQUESTS]
    command = [sys.executable, "-I", "-S", "-c", ASKS, str(unpacked), str(unpacked / "code"), str(installed)]
    told = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    *found, files = map(json.loads, told.stdout.splitlines())
    return found, files


def _sent(kind: str | None, headers: dict) -> dict[str, str]:
    """Returns the headers that a client sends."""
    attributes = {ATTRIBUTES: headers[ATTRIBUTES]} if ATTRIBUTES in headers else {}
    return attributes | ({"Content-Type": kind} if kind else {})


def test_it_counts_as_the_predictor_does_and_answers_as_our_server(answers, unpacked):
    predictor = Predictor.open(str(unpacked))
    found, _ = answers
    with listening(create_app(predictor)) as client:
        servers = [
            client.post("/invocations", content=body, headers=_sent(kind, headers))
            for body, kind, headers, _ in REQUESTS
        ]
    for (status, phrase, answer), server, (*_, expected) in zip(found, servers, REQUESTS, strict=True):
        assert (status, server.status_code, bool(phrase)) == (expected, expected, expected != 200)
        assert answer | {"milliseconds": 0} == server.json() | {"milliseconds": 0}
    by_count = predictor.predict(REQUESTS[0][0]).probabilities
    assert found[0][2]["probabilities"] == pytest.approx({str(count): by_count[count] for count in COUNTS}, abs=1e-6)
    assert (found[1][2]["mismatch_score"], found[2][2]["mismatch_score"]) != (None, None)


def test_it_runs_on_the_files_that_are_packed_and_on_packages_that_are_named(answers, unpacked, installed):
    _, files = answers
    own = {name: file for name, file in files.items() if name.split(".")[0] == "stocktake"}
    assert "stocktake.serving.predictor" in own
    assert all(file.startswith(f"{unpacked}/code/stocktake/") for file in own.values())
    assert files["inference"] == f"{unpacked}/code/inference.py"
    rooms = {path.relative_to(unpacked / "code/stocktake").parts[0] for path in unpacked.rglob("stocktake/*/*.py")}
    assert rooms == {"images", "metrics", "serving"}, "no training, no configuration, no AWS"
    named = {name for name in NEEDED if name not in ("idna",)}  # anyio's, for names of hosts
    distributions = importlib.metadata.packages_distributions()
    used = {one for name in files for one in distributions.get(name.split(".")[0], ())}
    assert named - {one.lower().replace("_", "-") for one in used} <= {"flatbuffers", "packaging", "protobuf"}


def test_equal_files_give_equal_archives(packed, tmp_path):
    model = export(tmp_path)
    assert ModelArchive.of({path.name: path.read_bytes() for path in model.iterdir()} | code_files()) == packed
    with tarfile.open(fileobj=io.BytesIO(packed.content)) as archive:
        assert {"model.json", "model.onnx", "code/inference.py", "code/requirements.txt"} <= {*archive.getnames()}


def test_what_is_installed_is_pinned_by_its_hash(unpacked):
    lines = (unpacked / "code" / "requirements.txt").read_text().splitlines()
    pins = [line.partition("==")[0] for line in lines if not line.startswith(" ")]
    assert sorted(pins) == sorted(NEEDED)
    assert all(line.lstrip().startswith("--hash=sha256:") for line in lines if line.startswith(" "))


@pytest.mark.parametrize(
    ("region", "image"),
    # As sagemaker-core's image_uri_config/pytorch.json has the accounts of inference 2.6.0.
    [
        ("us-east-1", "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-"),
        ("me-west-1", "124382933778.dkr.ecr.me-west-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-"),
        ("cn-north-1", "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch-inference:2.6.0-cpu-py312-"),
    ],
)
def test_the_image_is_the_regions(region, image):
    assert (inference_image(region) or "").startswith(image)
    assert inference_image("moon-west-1") is None
    assert all(map(inference_image, ACCOUNTS))


def test_what_it_cannot_be_together_with_is_told_and_ones_own_environment_goes_first():
    values = {"target": "serverless", "network_isolation": False, "subnets": [], "image_uri": "aws"}
    values["environment"] = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    assert [*aws_image_problems(values, "us-east-1")] == []
    (line,) = aws_image_problems(values, "moon-west-1")
    assert "in region moon-west-1. Type image_uri=" in line
    for key, value in {"network_isolation": True, "subnets": ["subnet-1"]}.items():
        (line,) = aws_image_problems(values | {key: value}, "us-east-1")
        assert line.startswith(f"{key} goes not with image_uri=aws") and "Leave" in line
    environment = with_aws_image(values, "us-east-1")["environment"]
    assert environment["SAGEMAKER_MODEL_SERVER_WORKERS"] == "2"
    assert environment["SAGEMAKER_PROGRAM"] == "inference.py"
