"""What a machine's processors can do, asked of stand-ins."""

import pytest
import torch

from stocktake.hardware import require_usable_gpus, suitable_precision

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
