"""What this machine's processors like: the precision and the memory layout that train fastest on them."""

import os
import platform

import torch


def likes_bfloat16() -> bool:
    """Whether half-width arithmetic pays: GPUs from Ampere on, and CPUs with AVX-512 BF16 (1.4 to 2.2 times)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not torch.backends.mps.is_available() and torch.cpu._is_avx512_bf16_supported()


def suitable_precision(wish: str) -> str:
    """Returns Lightning's name of the precision; `auto` becomes `bf16-mixed` where the hardware likes it."""
    return ("bf16-mixed" if likes_bfloat16() else "32-true") if wish == "auto" else wish


def require_accelerator(key: str, wish: str) -> None:
    """Refuses a GPU that is not there, before anything is read or built.

    Raises:
        ValueError: This machine has no such accelerator.
    """
    present = [name for name, device in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if device.is_available()]
    known = [*present, *(["gpu"] if present else []), "auto", "cpu"]
    if wish in ("cuda", "mps", "gpu") and wish not in known:
        raise ValueError(
            f"{key}={wish}: PyTorch finds none on this machine; there are {', '.join(known)}. Type {key}=auto."
        )


def suitable_channels_last(wish: bool | str) -> bool:
    """Whether to lay images out channels last; `auto`: where bfloat16 is fast."""
    return likes_bfloat16() if wish == "auto" else wish


def describe() -> str:
    """Returns one line for a report, such as `2 cores of AMD EPYC`."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{num_cores} cores of {_processor_name()}"


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
