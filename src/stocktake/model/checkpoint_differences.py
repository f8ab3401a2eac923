"""Whether two runs came to the same model: their checkpoints, bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from stocktake.model.torch_files import load_plain

COMPARED = ("global_step", "state_dict", "optimizer_states", "lr_schedulers")


def differences(one: Path, other: Path) -> list[str]:
    """Returns the dotted names of what differs between two checkpoints: steps, weights, optimizer and schedule."""
    values = [dict(_leaves(load_plain(path.read_bytes()))) for path in (one, other)]
    return sorted(
        name
        for name in values[0].keys() | values[1].keys()
        if not (name in values[0] and name in values[1] and _same(values[0][name], values[1][name]))
    )


def _leaves(checkpoint: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in COMPARED:
        yield from _below(part, checkpoint.get(part))


def _below(name: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict | list | tuple):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _below(f"{name}.{key}", child)
    else:
        yield name, node


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        # Of equal bits, so that NaN equals itself and 0.0 is not -0.0.
        return one.dtype == other.dtype and one.shape == other.shape and _bits(one) == _bits(other)
    return type(one) is type(other) and one == other


def _bits(tensor: torch.Tensor) -> bytes:
    # numpy has no bfloat16.
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy().tobytes()
