"""The folders of an instance as SageMaker lays them out, with a stand-in for torchrun that starts in no time."""

import json
import socket
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FAKE_TORCHRUN = """
import os, pathlib, signal, subprocess, sys
options = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--"))
words = sys.argv[sys.argv.index("train.py"):]
logs = pathlib.Path(options["log-dir"]) / "none_x" / "attempt_0" / "0"
logs.mkdir(parents=True)
environment = os.environ | {"RANK": options["node-rank"], "WORLD_SIZE": options["nnodes"]}
with (logs / "stderr.log").open("w") as log:
    child = subprocess.Popen([sys.executable, *words], env=environment, stderr=log)
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
sys.exit(1 if child.wait() else 0)
"""
# Of a machine whose driver is too old: PyTorch warns, counts no GPU, and would train on the CPU.
FAKE_TORCH = """
class cuda:
    device_count = lambda: 0
def ones(*size, device):
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")
"""
WORDS = [
    "experiment=demo",
    "a='it\\'s'",
    "b=[1,2]",
    "$(touch ran)",
    "`touch ran`",
    "two\nlines",
    "ü 数",
    "x" * 2000,
    "",
]
COMPLETES = """
import json, os, pathlib, sys
run = pathlib.Path(os.environ["RUN_DIR"])
(run / "checkpoints").mkdir(parents=True, exist_ok=True)
(run / "checkpoints" / "best.ckpt").write_text("best")
told = {"words": sys.argv[1:], "rank": os.environ["RANK"], "cwd": os.getcwd()}
told["wandb"] = [os.environ.get("WANDB_RUN_ID"), os.environ.get("WANDB_RESUME")]
(run / "metrics.json").write_text(json.dumps(told))
"""


def make_host(
    base: Path,
    script: str,
    hosts: Sequence[str] = ("algo-1",),
    current: str = "algo-1",
    words: Sequence[str] = WORDS,
    searched: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, str] | None = None,
    fake_torchrun: bool = True,
    export: str | None = None,
    instance_type: str = "ml.c5.xlarge",
) -> Path:
    """Lays out a base folder as SageMaker does before it starts the container."""
    for folder in (
        "input/config",
        "input/data/code",
        "input/data/config",
        "checkpoints",
        "model",
        "output/data",
    ):
        (base / folder).mkdir(parents=True)
    interface = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    config = {
        "resourceconfig": {
            "current_host": current,
            "current_instance_type": instance_type,
            "hosts": list(hosts),
            "network_interface_name": interface,
        },
        "inputdataconfig": {"code": {}, "config": {}},
        "hyperparameters": dict(hyperparameters or {}),
    }
    for name, content in config.items():
        (base / "input/config" / f"{name}.json").write_text(json.dumps(content))
    sent = {"script": "train.py", "overrides": list(words)} | ({"searched": searched} if searched else {})
    (base / "input/data/config/overrides.json").write_text(json.dumps(sent))
    files = {"train.py": script}
    if export is not None:
        files["scripts/export.py"] = export
    if fake_torchrun:
        files |= {"src/torch/__init__.py": FAKE_TORCH, "src/torch/distributed/__init__.py": ""}
        files["src/torch/distributed/run.py"] = FAKE_TORCHRUN
    packed = base.parent / f"{base.name}-code"
    for name, text in files.items():
        (packed / name).parent.mkdir(parents=True, exist_ok=True)
        (packed / name).write_text(text)
    with tarfile.open(base / "input/data/code/code.tar.gz", "w:gz") as archive:
        archive.add(packed, arcname=".")
    return base


def failure(base: Path) -> str:
    return (base / "output" / "failure").read_text()
