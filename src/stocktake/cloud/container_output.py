"""What a training container leaves behind: the files that SageMaker uploads, and the reason of a failure.

Uploaded beside container.py, so it has nothing but the standard library, too.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

MAX_FAILURE_CHARACTERS = 980  # FailureReason holds 1,024, with SageMaker's own words around ours
# A frame of an installed package in a traceback: where it is and the lines under it. 980 characters are for the user's.
INSTALLED_FRAME = re.compile(r'  File "[^"]*site-packages[^"]*", line .*\n(?:    .*\n)*')
PEER_LOST = re.compile(
    r"Connection (closed|reset) by peer|Connection refused|Broken pipe|DistNetworkError|DistBackendError|"
    r"DistStoreError|NCCL error|ncclRemoteError|Gloo\b.*timed out|Socket Timeout",
    re.IGNORECASE,
)


def last_tracebacks(log_folder: Path) -> list[str]:
    """Returns the last traceback of each process of this host, those that are no mere echo of a lost peer first."""
    tracebacks = []
    for path in sorted(log_folder.rglob("stderr.log")):
        _, found, tail = path.read_text(errors="replace").rpartition("Traceback (most recent call last):")
        if found:
            tracebacks.append(found + tail.rstrip())
    return sorted(tracebacks, key=lambda text: bool(PEER_LOST.search(text)))


def last_error_lines(log_folder: Path) -> str:
    """Returns the last lines that this host's first process wrote as errors: a plain message has no traceback."""
    for path in sorted(log_folder.rglob("stderr.log")):
        if lines := path.read_text(errors="replace").strip().splitlines():
            return "\n".join(lines[-10:])
    return ""


def write_failure(host_base: Path, reason: str) -> None:
    path = host_base / "output" / "failure"
    path.parent.mkdir(parents=True, exist_ok=True)
    reason = INSTALLED_FRAME.sub("", reason)
    # The end of a traceback says what happened; SageMaker cuts at the end.
    path.write_text(reason if len(reason) <= MAX_FAILURE_CHARACTERS else "..." + reason[3 - MAX_FAILURE_CHARACTERS :])


def failure_reason(log_folder: Path, returncode: int) -> str:
    """Returns why the training of this host ended with `returncode`."""
    found = [*last_tracebacks(log_folder), last_error_lines(log_folder)]
    return found[0] or f"torchrun ended with exit code {returncode}; see the log."


def files(folder: Path) -> dict[Path, int]:
    """Returns the files below `folder` with the times of their last change; checkpoints have their own way to S3."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return {path: (folder / path).stat().st_mtime_ns for path in found if path.parts[0] != "checkpoints"}


def publish(run_folder: Path, base: Path, host: str | None, restored: Mapping[Path, int]) -> None:
    """Copies the run folder to where SageMaker uploads from, and on the first host the best checkpoint as the model.

    SageMaker wants no two hosts to give a file the same name: those of other hosts lie in a folder of theirs.

    Args:
        base: /opt/ml.
        host: The name of this host, `None` for the first.
        restored: What another than the first host began with; it only publishes what it wrote itself.
    """
    best = run_folder / "checkpoints" / "best.ckpt"
    if host is None and best.exists():
        (base / "model").mkdir(parents=True, exist_ok=True)
        shutil.copy2(best, base / "model" / best.name)
    for path, changed in files(run_folder).items():
        if host is None or restored.get(path) != changed:
            copy = base / "output" / "data" / (f"hosts/{host}" if host else "") / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(run_folder / path, copy)
