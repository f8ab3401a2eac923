"""What this machine can do: the cores that a process may use, and the precision that trains fastest."""

import math
import os
import platform
from pathlib import Path, PurePosixPath

# torch is imported in the functions that ask it: the server, which has none, counts its cores here.

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def num_cores() -> int:
    """Returns how many cores this process may use: of the machine's those that it is bound to and its container pays.

    A container's share (`docker run --cpus=1.5`) is rounded up.
    """
    bound_to = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound_to, *(math.ceil(limit) for limit in _container_limits())]))


def _container_limits() -> list[float]:
    """Returns the cores that each control group around this process allows it.

    https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max), and of version 1
    https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us). In a container its own group is the root.
    """
    found = []
    try:
        lines = [line.split(":", 2) for line in OWN_CGROUP.read_text().splitlines()]
    except OSError:
        lines = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            found.append(_quota(root / group))
    return [limit for limit in found if limit is not None]


def _quota(group: Path) -> float | None:
    """Returns how many cores' time a control group gets, `None` where there is no limit or no such group."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None


def has_fast_bfloat16() -> bool:
    """Whether half-width arithmetic pays: GPUs from Ampere on, and CPUs with AVX-512 BF16 (1.4 to 2.2 times)."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not torch.backends.mps.is_available() and torch.cpu._is_avx512_bf16_supported()


def suitable_precision(requested: str) -> str:
    """Returns Lightning's name of the precision; `auto` becomes `bf16-mixed` where the hardware is fast in it.

    Raises:
        ValueError: The weights themselves would be kept in 16 bits.
    """
    if requested in ("bf16-true", "16-true"):
        raise ValueError(
            f"trainer.precision={requested} keeps the weights and the measured figures themselves in 16 bits, in which "
            f"small steps are lost. Type trainer.precision={requested.replace('true', 'mixed')}, which is as fast."
        )
    return ("bf16-mixed" if has_fast_bfloat16() else "32-true") if requested == "auto" else requested


def suitable_channels_last(requested: bool | str) -> bool:
    """Whether to lay images out channels last; `auto`: where bfloat16 is fast."""
    return has_fast_bfloat16() if requested == "auto" else bool(requested)


def require_accelerator(key: str, requested: str) -> None:
    """Refuses a GPU that is not there, before anything is read or built.

    Raises:
        ValueError: This machine has no such accelerator.
    """
    import torch

    present = [name for name, device in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if device.is_available()]
    known = [*present, *(["gpu"] if present else []), "auto", "cpu"]
    if requested in ("cuda", "mps", "gpu") and requested not in known:
        raise ValueError(
            f"{key}={requested}: PyTorch finds none on this machine; there are {', '.join(known)}. Type {key}=auto."
        )


def require_usable_gpus(accelerator: str) -> None:
    """
    Raises:
        ValueError: This PyTorch has no kernels for a GPU that would be trained on, as for a V100 (sm_70).
    """
    import torch

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
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"{num_cores()} cores of {_processor_name()}"


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
