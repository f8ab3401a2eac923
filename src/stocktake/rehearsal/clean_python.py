"""A Python like the one in an image: what that brings, the container's lock, and not this package.

The code is a folder on PYTHONPATH there: what only works because the package is installed here, or because a package of
this environment is, fails in a rehearsal in it as it would fail on paid instances.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock

PYTHON = "3.12"  # of AWS's training images
# What the image brings and the lock leaves out, see the Makefile; torch comes in the version that its tag names.
FROM_THE_IMAGE = ("torchvision", "jinja2", "markupsafe", "mpmath", "networkx", "pillow", "setuptools", "sympy")
TAG = re.compile(r"pytorch[^:]*:(\d+)\.(\d+)")


class NoCleanPython(ValueError):
    """It could not be made; the message says why and what to do."""


def clean_python(
    lock: Path,
    image_uri: str | None,
    say: Callable[[str], None] = print,
    cache: Path | None = None,
    from_the_image: Sequence[str] = FROM_THE_IMAGE,
    version: str = PYTHON,
) -> Path:
    """Returns the interpreter; the first call for a lock and an image installs it, the later ones need no network.

    Args:
        lock: The container's.
        image_uri: Whose tag names the version of torch; `None` for an image without.
        say: Is told what takes so long.
        cache: Holds a folder for each of them; `None` is stocktake in the user's cache.
        from_the_image: Further packages that the image brings.
        version: Of the image's Python; another is taken where this machine has none.

    Raises:
        NoCleanPython: There is no such lock, or the package index cannot be reached or lacks something.
    """
    if not lock.exists():
        raise NoCleanPython(f"clean=true needs {lock}, which is not here: type it in the repository's root.")
    wanted = [*(_torch(image_uri) if image_uri else ()), *from_the_image]
    base = _python_like_the_images(version)
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "stocktake")
    key = hashlib.sha256("\0".join([lock.read_text(), *wanted, str(base)]).encode()).hexdigest()[:12]
    folder = cache / f"container-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        python, whole = folder / "bin" / "python", folder / "whole"
        if not whole.exists():
            say(f"clean=true: installing {_what(wanted, lock)} into {folder}, once.")
            began = time.monotonic()
            shutil.rmtree(folder, ignore_errors=True)  # of a try that did not end
            for command in _commands(base, folder, python, wanted, lock):
                _run(command)
            whole.touch()
            say(f"It took {time.monotonic() - began:.0f} s. To be rid of it: rm -r {folder}")
    return python


def _torch(image_uri: str) -> list[str]:
    """Returns the requirement of the image's torch, or of the nearest before it that the index has."""
    found = TAG.search(image_uri)
    return [f"torch<{found[1]}.{int(found[2]) + 1}"] if found else ["torch"]


def _what(wanted: Sequence[str], lock: Path) -> str:
    if not wanted:
        return lock.name
    return f"what AWS's image holds ({', '.join(wanted)}) and {lock.name} (minutes, and gigabytes)"


def _python_like_the_images(version: str) -> Path:
    """Returns an interpreter of the image's version, or this one where there is none."""
    known = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    candidates = [sys.executable, shutil.which(f"python{version}"), *sorted(known, reverse=True)]
    check = f"import sys, venv; sys.exit('{version}' != '%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", check], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return Path(candidate)
    return Path(sys.executable)


def _commands(base: Path, folder: Path, python: Path, wanted: list[str], lock: Path) -> Iterator[list[str]]:
    if importlib.util.find_spec("uv"):
        uv = [sys.executable, "-m", "uv"]
        yield [*uv, "venv", "--quiet", "--python", str(base), str(folder)]
        install = [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]  # as pip does
    else:
        yield [str(base), "-m", "venv", str(folder)]
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # In the order of a job: first the image, then the lock over it.
    if wanted:
        yield [*install, *wanted]
    yield [*install, "--no-deps", "--require-hashes", "--requirement", str(lock)]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = " ".join(done.stderr.split())[-600:]
        raise NoCleanPython(
            f"clean=true: {' '.join(command[:4])} ... ended with exit code {done.returncode}: {reason}. Its packages "
            "come from the package index: look at the network, or leave clean=true out."
        )
