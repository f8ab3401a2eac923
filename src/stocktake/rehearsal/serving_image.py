"""What an instance of an endpoint starts: this Python over this repository, or what the Dockerfile's stage holds."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stocktake.rehearsal.clean_python import clean_python

REPOSITORY = Path(__file__).resolve().parents[3]
DOCKERFILE, STAGE = "Dockerfile", "serving"
IGNORED = ("__pycache__", "*.egg-info")  # by .dockerignore

Instruction = tuple[str, str]


@dataclass(frozen=True)
class ServingImage:
    """An image, as far as it can be without Docker.

    Attributes:
        entrypoint: Its ENTRYPOINT, to which SageMaker adds the word `serve`.
        folder: Its WORKDIR; `None` is the instance's own folder.
        environment: Its variables, PATH among them.
    """

    entrypoint: Sequence[str]
    folder: Path | None
    environment: Mapping[str, str]


def this_python() -> ServingImage:
    """Returns the image that needs nothing installed: this repository stands for its /opt/stocktake."""
    environment = {"PATH": _path(Path(sys.executable).parent), "PYTHONPATH": str(REPOSITORY / "src")}
    entrypoint = (sys.executable, str(REPOSITORY / "scripts" / "serve.py"))
    return ServingImage(entrypoint, None, environment | {"PYTHONUNBUFFERED": "1"})


def clean_image(
    target: Path, repository: Path = REPOSITORY, say: Callable[[str], None] = print, cache: Path | None = None
) -> ServingImage:
    """Returns what the Dockerfile's stage `serving` holds: its lock alone installed, and a copy of what it copies.

    Its base image's system libraries and its user are this machine's.

    Args:
        target: Is made, and stands for the image's WORKDIR.
        repository: Holds the Dockerfile and what it copies.
        say: Is told what takes so long.
        cache: Holds the environments; `None` is stocktake in the user's cache.

    Raises:
        NoCleanPython: The lock could not be installed.
    """
    stage = _stage((repository / DOCKERFILE).read_text(), STAGE)
    copies = [shlex.split(arguments) for arguments in _arguments_of(stage, "COPY")]
    (lock,) = [source for *sources, _ in copies for source in sources if source.endswith(".lock")]
    (base,), (workdir,), (entrypoint,) = (_arguments_of(stage, name) for name in ("FROM", "WORKDIR", "ENTRYPOINT"))
    version = base.partition(":")[2].partition("-")[0]  # python:3.13-slim AS serving
    python = clean_python(repository / lock, None, say, cache, from_the_image=(), version=version)
    for *sources, destination in copies:
        for source in sources:
            _copy(repository / source, target, destination)
    # As its RUN does, so that the first instance starts no slower than the next.
    subprocess.run([python, "-m", "compileall", "-q", target], check=True, stdin=subprocess.DEVNULL)  # noqa: S603
    arguments = [argument.partition("=") for line in _arguments_of(stage, "ENV") for argument in shlex.split(line)]
    environment = {name: value.replace(workdir, str(target)) for name, _, value in arguments}
    return ServingImage(json.loads(entrypoint), target, {"PATH": _path(python.parent), **environment})


def _path(first: Path) -> str:
    return os.pathsep.join([str(first), os.defpath])


def _stage(dockerfile: str, name: str) -> list[Instruction]:
    """Returns the instructions of a stage, FROM first."""
    without_comments = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", without_comments).splitlines()
    found: list[Instruction] = []
    is_in = False  # ARG may stand before the first
    for instruction, _, arguments in (line.partition(" ") for line in lines if line.strip()):
        if instruction == "FROM":
            is_in = arguments.split()[-1] == name
        if is_in:
            found.append((instruction, arguments.strip()))
    return found


def _arguments_of(stage: Sequence[Instruction], wanted: str) -> list[str]:
    return [arguments for instruction, arguments in stage if instruction == wanted]


def _copy(source: Path, target: Path, destination: str) -> None:
    """Copies as COPY does: the contents of a folder, or a file, into a place that ends with a slash."""
    if source.is_dir():
        shutil.copytree(source, target / destination, ignore=shutil.ignore_patterns(*IGNORED), dirs_exist_ok=True)
        return
    copied = target / destination / source.name if destination.endswith("/") else target / destination
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, copied)
