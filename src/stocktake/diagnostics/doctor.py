"""scripts/doctor.py: what this machine has and lacks, and what to type; it runs where the rest would not."""

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.text import Text

from stocktake.diagnostics import packages
from stocktake.diagnostics.accounts import Finding, aws, sagemaker, wandb
from stocktake.storage import Folder, StorageOptions

SETUP = "rm -f .venv/.synced && make setup"  # make alone would not see what another pip did
SMALLEST_DISK_GIB = 5  # a ResNet50's checkpoints, 10,441 images and the report
SMALLEST_MEMORY_GIB = 4  # torch, two workers and a batch of a ResNet50
PUBLIC_BUCKET = "s3://aft-vbi-pds"
WEIGHTS_HUB = "https://huggingface.co"
TEST_DATA = {  # environment variable: what the tests take from it, and how it is set
    "ABID_ROOT": ("real bins", "export ABID_ROOT=<folder with bin-images/ and metadata/>"),
    "ABID_ORIGINAL_ROOT": (
        "real bins in full size",
        "export ABID_ORIGINAL_ROOT=<folder with bin-images/ and metadata/>",
    ),
    "WEIGHTS": ("ImageNet weights", "export WEIGHTS=<folder>/mobilenetv2_100.imagenet.safetensors"),
}


def doctor(repository: Path, network: bool = False) -> int:
    """Prints a line for everything that a run may need; returns the exit code."""
    console = Console(soft_wrap=True, highlight=False)  # what is to be typed must stay on one line
    findings = []
    for finding in examine(repository, network):
        findings.append(finding)
        state = (
            Text("missing", "bold red" if finding.stops_training else "yellow") if finding.hint else Text("ok", "green")
        )
        state.pad_right(9 - len(state))
        console.print(state + Text(f"{finding.subject}: {finding.detail}"))
        if finding.hint:
            console.print(Text(f"         type: {finding.hint}"))
    stopping = [finding.subject for finding in findings if finding.stops_training and finding.hint]
    if stopping:
        console.print(Text(f"\nTraining will not run here without: {', '.join(stopping)}.", "bold red"))
    else:
        lacking = [finding.subject for finding in findings if finding.hint]
        for_the_rest = f" What is missing is for something else: {', '.join(lacking)}." if lacking else ""
        console.print(Text(f"\nTraining runs here.{for_the_rest}", "bold green"))
    return 1 if stopping else 0


def examine(repository: Path, network: bool = False) -> Iterator[Finding]:
    """Yields a finding for everything that a run may need.

    Args:
        repository: Where pyproject.toml and requirements.lock lie.
        network: Also ask AWS, the public bucket and the weights' hub.
    """
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    yield python_version(project["requires-python"])
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras.pop("train")):
        yield package(Requirement(line))
    for name, lines in extras.items():
        yield extra(name, [Requirement(line) for line in lines])
    yield lock(repository / "requirements.lock")
    yield platform()
    yield from hardware()
    yield disk(Path.cwd())
    yield aws(network)
    yield from sagemaker(network)
    yield wandb()
    yield chromium()
    yield from test_data()
    if network:
        yield public_bucket()
        yield weights_hub()


def python_version(wanted: str) -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    hint = None if SpecifierSet(wanted).contains(running) else "rm -r .venv && make setup PYTHON=python3.12"
    return Finding("python", f"{running} (wanted {wanted}), {sys.prefix}", hint, stops_training=True)


def platform(system: str = sys.platform) -> Finding:
    """Whether this is a system that the project runs on."""
    if system == "win32":
        detail = "Windows has no forkserver, which the processes that read images start from"
        return Finding("system", detail, "wsl --install   # and then make setup in its Linux", stops_training=True)
    if system == "darwin":
        return Finding("system", "macOS: trains, evaluates and serves; nobody has tried a rehearsal of SageMaker there")
    return Finding("system", f"{system}, where all of it is tested")


def package(requirement: Requirement) -> Finding:
    hint = None if packages.fits(requirement) else SETUP
    return Finding("package", packages.describe(requirement), hint, stops_training=True)


def extra(name: str, requirements: Sequence[Requirement]) -> Finding:
    """Whether all packages of one of pyproject.toml's other extras fit."""
    lacking = [packages.describe(requirement) for requirement in requirements if not packages.fits(requirement)]
    return Finding(f"packages for {name}", ", ".join(lacking) or f"all {len(requirements)}", SETUP if lacking else None)


def lock(path: Path) -> Finding:
    """Whether what is installed is what the lock says."""
    if not path.is_file():
        return Finding(path.name, "there is none", "make lock")
    wanted = packages.locked(path)
    differing = [packages.describe(requirement) for requirement in wanted if not packages.fits(requirement)]
    if differing:
        return Finding(path.name, f"{len(differing)} of {len(wanted)} packages differ: {', '.join(differing)}", SETUP)
    return Finding(path.name, f"all {len(wanted)} packages as locked")


def hardware() -> Iterator[Finding]:
    memory_gib = _memory_bytes() / 2**30
    enough = memory_gib >= SMALLEST_MEMORY_GIB
    hint = None if enough else "python train.py data.batch_size=8 data.num_workers=0"
    yield Finding("memory", f"{memory_gib:.1f} GiB", hint)
    try:
        import torch

        from stocktake.hardware import describe, suitable_precision
    except (ImportError, OSError) as error:  # a package, or one of its libraries, is missing
        yield Finding("processor", f"torch cannot be imported: {error}", SETUP, stops_training=True)
        return
    has_bf16 = torch.cpu._is_avx512_bf16_supported()
    gpu = f"{torch.cuda.device_count()} (CUDA {torch.version.cuda})" if torch.cuda.is_available() else "none"
    mps = "yes" if torch.backends.mps.is_available() else "no"
    yield Finding("processor", describe())
    yield from unusable_gpus(torch)
    yield Finding("accelerator", f"GPUs {gpu}, MPS {mps}, AVX-512 BF16 {'yes' if has_bf16 else 'no'}")
    yield Finding("trainer.precision=auto", f"will be {suitable_precision('auto')}")


def unusable_gpus(torch: Any, devices: Path = Path("/dev")) -> Iterator[Finding]:
    """Yields the GPUs that are there and that this torch cannot use: it would train on the CPU, or end in an error."""
    without = "python train.py trainer.accelerator=cpu   # or install a torch that is built for it"
    if not torch.cuda.is_available():
        if any(path.name[6:].isdigit() for path in devices.glob("nvidia*")):
            wanted = f"its driver must know CUDA {torch.version.cuda}" if torch.version.cuda else "it knows no CUDA"
            hint = "nvidia-smi   # shows the newest CUDA that the driver knows"
            yield Finding("GPU", f"is here, but torch {torch.__version__} cannot use it: {wanted}", hint)
        return
    built_for = sorted(int(name[3:]) for name in torch.cuda.get_arch_list() if name[3:].isdigit())
    for number in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(number)
        if built_for and 10 * major + minor < built_for[0]:
            name = torch.cuda.get_device_name(number)
            detail = f"{name} is of compute capability {major}.{minor}; torch {torch.__version__} begins at "
            yield Finding(f"GPU {number}", f"{detail}{built_for[0] / 10:g}", without, stops_training=True)


def disk(folder: Path) -> Finding:
    free_gib = shutil.disk_usage(folder).free / 2**30
    enough = free_gib >= SMALLEST_DISK_GIB
    hint = (
        None
        if enough
        else "RUN_DIR=<folder on a larger disk> python train.py data.root=<folder on a larger disk>/synthetic-2000"
    )
    return Finding("disk", f"{free_gib:.0f} GiB free in {folder}, {SMALLEST_DISK_GIB} wanted", hint)


def chromium() -> Finding:
    path = shutil.which("chromium")
    hint = None if path else "apt-get install --no-install-recommends chromium"
    return Finding("chromium", path or "not on the PATH; only the report's tests need it", hint)


def test_data() -> Iterator[Finding]:
    for name, (purpose, hint) in TEST_DATA.items():
        path = os.environ.get(name)
        if not path:
            yield Finding(name, f"not set; the tests that want {purpose} skip", hint)
        elif not Path(path).exists():
            yield Finding(name, f"{path} does not exist; the tests that want {purpose} fail", hint)
        else:
            yield Finding(name, path)


def public_bucket() -> Finding:
    hurried = StorageOptions(max_retries=1, retry_timeout_s=5, request_timeout_s=5)
    try:
        Folder(PUBLIC_BUCKET, hurried).exists("metadata/1.json")
    except OSError as error:
        hint = "curl -I https://aft-vbi-pds.s3.amazonaws.com/metadata/1.json   # to see what stands between"
        return Finding(PUBLIC_BUCKET, f"does not answer: {error}", hint)
    return Finding(PUBLIC_BUCKET, "answers")


def weights_hub() -> Finding:
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(urllib.request.Request(WEIGHTS_HUB, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        pass  # it answers, if not with a page
    except OSError as error:
        hint = "python train.py model.weights=<a .safetensors file, or none>"
        return Finding(WEIGHTS_HUB, f"does not answer, so no ImageNet weights: {error}", hint)
    return Finding(WEIGHTS_HUB, "answers, so model.weights=imagenet can be had")


def _memory_bytes() -> int:
    """Returns what this machine has, or what its container may use (cgroup v2)."""
    if not hasattr(os, "sysconf"):  # Windows, where nothing runs anyway
        return 0
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return total if allowed == "max" else min(total, int(allowed))
