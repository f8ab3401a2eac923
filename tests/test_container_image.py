"""The Dockerfile and the container's lock, as far as they can be judged without Docker."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def test_what_is_copied_is_there_and_not_ignored(instructions):
    kept = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for name, words in instructions if name == "COPY" for source in shlex.split(words)[:-1]]
    assert sorted(copied) == sorted(kept)
    assert all((REPOSITORY / source).exists() for source in copied)


def test_the_entrypoint_is_ours_without_a_shell_and_starts(instructions, tmp_path):
    (words,) = [words for name, words in instructions if name == "ENTRYPOINT"]
    assert words == '["python3", "-m", "stocktake.cloud.container"]'
    (variables,) = [words for name, words in instructions if name == "ENV"]
    source = dict(word.split("=") for word in shlex.split(variables))["PYTHONPATH"].rpartition("/")[2]
    # Without SageMaker's files it has to say so, in the place where SageMaker looks.
    told = subprocess.run(
        [sys.executable, "-m", "stocktake.cloud.container", "train"],
        env={"PYTHONPATH": str(REPOSITORY / source), "SAGEMAKER_BASE_DIR": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert told.returncode == 1
    assert "KeyError: 'hosts'" in (tmp_path / "output" / "failure").read_text()


def test_the_containers_lock_leaves_to_the_image_what_it_brings():
    text = (REPOSITORY / "requirements.container.lock").read_text()
    names = re.findall(r"^([a-z0-9.-]+)==", text, flags=re.MULTILINE)
    brought = [name for name in names if name in ("torch", "torchvision", "triton") or name.startswith("nvidia")]
    assert brought == []
    assert {"hydra-core", "pytorch-lightning", "timm", "torchmetrics", "wandb", "obstore", "boto3"} <= set(names)
    assert len(re.findall(r"==.*\\\n\s+--hash=sha256:", text)) == len(names), "each has a hash"
    assert "http" not in re.sub(r"^[a-z0-9.-]*http[a-z0-9.-]*==", "", text, flags=re.MULTILINE), "names no index"
