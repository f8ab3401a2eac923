"""Whether a training container can use its instance's GPUs, found out before the training is paid for.

Uploaded beside container.py, so it has nothing but the standard library, too.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

GPU_TYPE = re.compile(r"ml\.[gp]")  # NVIDIA's, all of them
USE_EVERY_GPU = """
import torch
for number in range(max(torch.cuda.device_count(), 1)):
    torch.ones(1, device=f"cuda:{number}").item()
"""


def gpu_problem(instance_type: str, overrides: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Returns why PyTorch cannot use this instance's GPU: it would train on the CPU, at the GPU's price."""
    hidden = environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or "trainer.accelerator=cpu" in overrides
    if hidden or not (num_gpus() or GPU_TYPE.match(instance_type)):
        return None
    command = [sys.executable, "-c", USE_EVERY_GPU]
    tried = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    reason = tried.stderr.strip().splitlines()[-1:] or [f"exit code {tried.returncode}"]
    if tried.returncode == 0:
        return None
    return (
        f"PyTorch cannot use the GPU of this {instance_type or 'instance'}: {reason[0]}. Take another of "
        "compute.instance_types or another compute.image_uri; to train on its CPU: trainer.accelerator=cpu"
    )


def num_gpus() -> int:
    return len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()])
