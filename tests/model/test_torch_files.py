"""Checkpoints that are equal, and that differ in one bit."""

import pytest
import torch

from stocktake.model.torch_files import differences


def checkpoint() -> dict:
    return {
        "global_step": 7,
        "state_dict": {
            "kernel": torch.ones(4, 8, 1, 1).to(memory_format=torch.channels_last),
            "a": torch.tensor([1.0, float("nan")]),
            "b": torch.zeros(2, dtype=torch.bfloat16),
        },
        "optimizer_states": [{"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [],
        "callbacks": {"path": "differs"},
    }


def changed(value: dict, change) -> dict:
    change(value)
    return value


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c.update(callbacks={}), []),
        (lambda c: c.update(global_step=8), ["global_step"]),
        (lambda c: c["state_dict"].update(b=torch.tensor([0.0, -0.0], dtype=torch.bfloat16)), ["state_dict.b"]),
        (lambda c: c["state_dict"]["a"].__setitem__(0, 1.0000001), ["state_dict.a"]),
        (lambda c: c["state_dict"].pop("a"), ["state_dict.a"]),
        (
            lambda c: c["optimizer_states"][0]["state"][0].update(step=torch.tensor(8.0)),
            ["optimizer_states.0.state.0.step"],
        ),
        (
            lambda c: c["optimizer_states"][0]["param_groups"][0].update(lr=0.2),
            ["optimizer_states.0.param_groups.0.lr"],
        ),
    ],
)
def test_what_differs_is_named(tmp_path, change, expected):
    torch.save(checkpoint(), tmp_path / "one.ckpt")
    torch.save(changed(checkpoint(), change), tmp_path / "other.ckpt")
    assert differences(tmp_path / "one.ckpt", tmp_path / "other.ckpt") == expected
