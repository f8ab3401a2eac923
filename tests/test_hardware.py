"""What a machine's processors can do, asked of stand-ins."""

import os
import subprocess
import sys

import pytest
import torch

from stocktake import hardware
from stocktake.hardware import num_cores, require_usable_gpus, suitable_precision

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "compute_120"]


@pytest.fixture
def gpu(monkeypatch):
    def of(capability):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _number: "Tesla V100-SXM2-16GB")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _number: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ARCHITECTURES)

    return of


@pytest.mark.parametrize("capability", [(7, 0), (6, 1), (11, 0)])
def test_a_gpu_that_this_pytorch_was_not_built_for_is_refused(gpu, capability):
    gpu(capability)
    with pytest.raises(ValueError, match=r"V100.*compute capability \d+\.\d.*sm_75.*trainer.accelerator=cpu"):
        require_usable_gpus("auto")
    require_usable_gpus("cpu")


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (10, 3), (12, 1)])
def test_a_gpu_that_it_was_built_for_is_used(gpu, capability):
    gpu(capability)
    assert require_usable_gpus("auto") is None  # another one raises


def test_without_a_gpu_there_is_nothing_to_refuse():
    assert require_usable_gpus("auto") is None


@pytest.mark.parametrize(("wish", "instead"), [("bf16-true", "bf16-mixed"), ("16-true", "16-mixed")])
def test_weights_of_16_bits_are_refused(wish, instead):
    with pytest.raises(ValueError, match=f"trainer.precision={wish} .*Type trainer.precision={instead}"):
        suitable_precision(wish)


@pytest.fixture
def container(monkeypatch, tmp_path):
    """Returns a function that makes the kernel's files say that this process is in some control groups."""

    def of(own: str, files: dict[str, str], bound_to: int = 8):
        for name, content in files.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(content)
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(hardware, "CGROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(hardware, "OWN_CGROUP", tmp_path / "own")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(bound_to)), raising=False)

    return of


V1 = "3:cpuset:/docker/a\n2:cpu,cpuacct:/docker/a\n1:name=systemd:/docker/a\n"
OF_V1 = {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("own", "files", "bound_to", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8, 8),  # without a limit
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 8, 2),  # docker run --cpus=2
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 8, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 8, 1),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 2, 2),  # taskset -c 0,1 within --cpus=4
        ("0::/user/job\n", {"user/cpu.max": "300000 100000\n", "user/job/cpu.max": "max 100000\n"}, 8, 3),
        ("0::/../elsewhere\n", {"cpu.max": "damaged"}, 8, 8),
        (V1, OF_V1, 8, 3),
        (V1, OF_V1 | {"cpu/cpu.cfs_quota_us": "-1\n"}, 8, 8),  # without a limit
        ("", {}, 8, 8),
    ],
)
def test_cores_are_those_that_the_process_is_bound_to_and_its_container_pays(container, own, files, bound_to, expected):
    container(own, files, bound_to)
    assert num_cores() == expected


def test_cores_are_counted_where_there_are_no_control_groups(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "OWN_CGROUP", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert num_cores() == os.cpu_count()


def test_cores_are_counted_without_torch():
    command = "import sys; from stocktake.hardware import num_cores; num_cores(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
