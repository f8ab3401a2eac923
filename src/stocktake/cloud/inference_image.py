"""AWS's own PyTorch inference image, which serves an exported model without an image of one's own: `image_uri=aws`.

It has Python 3.12, torch, numpy and TorchServe (aws/deep-learning-containers, pytorch/inference/docker/2.6). When it
starts, its toolkit puts model.tar.gz's code/ on PYTHONPATH, installs code/requirements.txt with pip and has TorchServe
call the module that SAGEMAKER_PROGRAM names (aws/sagemaker-pytorch-inference-toolkit 2.0.25, torchserve.py, and
aws/sagemaker-inference-toolkit 1.10, model_server.py and parameters.py). So the archive carries what of this package
serves, and a list of what the image lacks.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stocktake.cloud.preflight import DEFAULT_REGION, find_region
from stocktake.cloud.training_images import ACCOUNTS, DOMAIN, OLDER_ACCOUNTS

AWS_IMAGE = "aws"  # what is typed for it
MAX_PAYLOAD_MB = 6  # TorchServe takes requests of 6,553,500 bytes, unless it is configured otherwise (max_request_size)
# In the regions of 2.14, and where 2.13 is the newest (sagemaker-core, image_uri_config/pytorch.json).
REPOSITORY_AND_TAG = "pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-sagemaker"
CODE = "code"
ENVIRONMENT = {
    "SAGEMAKER_PROGRAM": "inference.py",
    "SAGEMAKER_SUBMIT_DIRECTORY": f"/opt/ml/model/{CODE}",  # as AWS's SDK sets it
}
SERVERLESS_ENVIRONMENT = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}  # each brings torch into little memory
PACKAGE = Path(__file__).resolve().parents[1]
HANDLER = "stocktake.serving.sagemaker_handler"
LOCK = PACKAGE.parents[1] / "requirements.serve.lock"
# What the handler imports, and what that needs. Not numpy: the image's own scipy is built for the one that is there.
NEEDED = (
    *("anyio", "flatbuffers", "idna", "obstore", "onnxruntime", "packaging", "pillow", "protobuf"),
    *("python-multipart", "starlette", "typing-extensions"),
)


def inference_image(region: str) -> str | None:
    """Returns the URI of the image in a region, `None` where AWS lists none."""
    account, domain = OLDER_ACCOUNTS.get(region, (ACCOUNTS.get(region), DOMAIN))
    return account and f"{account}.dkr.ecr.{region}.{domain}/{REPOSITORY_AND_TAG}"


def with_aws_image(values: Mapping[str, Any], region: str) -> dict[str, Any]:
    """Returns the values of conf/deploy/deploy.yaml, of which image_uri is `aws`, with what that stands for.

    What `environment` says goes before what is set here; `aws_image_problems` says where there is no such image.
    """
    own = ENVIRONMENT | (SERVERLESS_ENVIRONMENT if values["target"] == "serverless" else {})
    image_uri = inference_image(region) or AWS_IMAGE
    return {**values, "image_uri": image_uri, "environment": own | dict(values["environment"])}


def with_image(
    values: dict[str, Any], files: Mapping[str, bytes]
) -> tuple[dict[str, Any], dict[str, bytes], list[str]]:
    """Returns the values and the archive's files for the image that image_uri names, and why it cannot serve.

    Args:
        values: Of conf/deploy/endpoint.yaml.
        files: Of an exported model.
    """
    if values["image_uri"] != AWS_IMAGE:
        return values, dict(files), []
    region = find_region(values["profile"], values["region"]) or DEFAULT_REGION
    found = [*aws_image_problems(values, region)]
    return with_aws_image(values, region), {**files, **code_files()}, found


def aws_image_problems(values: Mapping[str, Any], region: str) -> Iterator[str]:
    """Yields why the image cannot serve, a line each.

    Args:
        values: Of conf/deploy/deploy.yaml, as they were typed.
    """
    yours = "image_uri=<account>.dkr.ecr.<region>.amazonaws.com/stocktake-serving@sha256:<digest>"
    if inference_image(region) is None:
        yield f"image_uri={AWS_IMAGE}: AWS lists no PyTorch inference image in region {region}. Type {yours}"
    for key in ("network_isolation", "subnets"):
        if values[key]:
            yield (
                f"{key} goes not with image_uri={AWS_IMAGE}, whose container installs packages from PyPI when it "
                f"starts, and needs the way there. Leave {key} out, or type {yours}"
            )


def code_files() -> dict[str, bytes]:
    """Returns what stands beside the model for it, by the path in the archive: the same bytes each time.

    Raises:
        OSError: This is no checkout of the repository, which has the lock.
    """
    sources = _sources(HANDLER)
    program = sources.pop(_path_of(HANDLER))
    files = {ENVIRONMENT["SAGEMAKER_PROGRAM"]: program, "requirements.txt": _requirements(LOCK.read_text()).encode()}
    files |= {path.relative_to(PACKAGE.parent).as_posix(): content for path, content in sources.items()}
    return {f"{CODE}/{path}": content for path, content in files.items()}


def _requirements(lock: str) -> str:
    """Returns those of a lock's packages that are NEEDED, with their hashes, which pip then insists on."""
    pins = re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE)
    by_name = {name: [pin for pin in pins if pin.startswith(f"{name}==")] for name in NEEDED}
    assert all(by_name.values()), "the lock has each of them"
    return "".join(pin for found in by_name.values() for pin in found)


def _sources(module: str) -> dict[Path, bytes]:
    """Returns the files of a module of this package and of all those that it imports, within functions too."""
    found: dict[Path, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _path_of(name)
        if path in found or not path.exists():  # not so of what is imported from a module
            continue
        found[path] = path.read_bytes()
        waiting += [*_imported(ast.parse(found[path])), *([name.rpartition(".")[0]] if "." in name else [])]
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE.name}."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _path_of(module: str) -> Path:
    """Returns the file of a module of this package, or of the folder that it is."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
