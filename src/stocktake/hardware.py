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
    """Returns Lightning's name of the precision; `auto` becomes `bf16-mixed` where the hardware likes it.

    Raises:
        ValueError: The weights themselves would be kept in 16 bits.
    """
    if wish in ("bf16-true", "16-true"):
        raise ValueError(
            f"trainer.precision={wish} keeps the weights and the measured figures themselves in 16 bits, in which "
            f"small steps are lost. Type trainer.precision={wish.replace('true', 'mixed')}, which is as fast."
        )
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


def require_usable_gpus(accelerator: str) -> None:
    """
    Raises:
        ValueError: This PyTorch has no kernels for a GPU that would be trained on, as for a V100 (sm_70).
    """
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return
    built_for = torch.cuda.get_arch_list()
    for number in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(number)
        if not any(_runs_on(architecture, major, minor) for architecture in built_for):
            raise ValueError(
                f"The GPU {torch.cuda.get_device_name(number)} is of compute capability {major}.{minor} "
                f"(sm_{major}{minor}), and this PyTorch {torch.__version__} is built for {', '.join(built_for)}. Use a "
                "newer GPU, a PyTorch that still has its architecture, or type trainer.accelerator=cpu."
            )


def _runs_on(architecture: str, major: int, minor: int) -> bool:
    """Whether a GPU runs code of `sm_86` (of its major version, no newer) or `compute_90` (compiled at the start)."""
    kind, _, version = architecture.partition("_")
    built_major, built_minor = divmod(int(version.rstrip("af")), 10)
    if kind == "compute":
        return (built_major, built_minor) <= (major, minor)
    return built_major == major and built_minor <= minor


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
