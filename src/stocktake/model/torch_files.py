"""What torch.save wrote, read back as data alone and whole: no code, no file that swells, no bit that has turned.

And two such files compared, bit for bit: whether two runs came to the same model.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ZIP_START = b"PK"  # what torch.save writes is a zip file
COMPARED = ("global_step", "state_dict", "optimizer_states", "lr_schedulers")


class DamagedFile(ValueError):
    """A file whose parts are not what they were when it was written."""


def load_plain(content: bytes, map_location: str = "cpu") -> Any:
    """Returns the tensors and plain values in a file of torch's.

    Raises:
        DamagedFile: A checksum in it is not that of its content, or it holds more than its own size.
        Exception: torch has a dozen different ones for a file that is cut off or none of its own.
    """
    if content.startswith(ZIP_START):
        _check_archive(content)
    loaded = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    _check_views(loaded, len(content))
    return loaded


def named_tensors(state: Any) -> dict[str, Tensor]:
    """Returns the weights in what `load_plain` gave, where they are what a network's `state_dict` holds.

    Raises:
        DamagedFile: They are something else than dense tensors by their names.
    """
    if not isinstance(state, dict):
        raise DamagedFile(f"it holds a {type(state).__name__}, not a dict of tensors")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise DamagedFile(f"{name!r} among its weights is a {type(tensor).__name__}, not a tensor with a name")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex() or tensor.is_quantized:
            raise DamagedFile(f"{name} among its weights is no tensor of plain numbers")
    return state


def check_finite(network: nn.Module) -> None:
    """Refuses a network that can say nothing of any image, such as one whose training diverged.

    Raises:
        DamagedFile: A weight of it is no number. A buffer may be infinite, as a bound or a mask is.
    """
    wrong = [name for name, weight in network.named_parameters() if not weight.isfinite().all()]
    if wrong := wrong + [name for name, buffer in network.named_buffers() if buffer.isnan().any()]:
        raise DamagedFile(
            f"{len(wrong)} of its tensors hold NaN or infinity, first {wrong[0]}: did its training diverge?"
        )


def _check_archive(content: bytes) -> None:
    """Refuses what torch's own reader passes over: it checks no checksum, and unpacks whatever is packed.

    Raises:
        DamagedFile: As `load_plain` says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            num_bytes = sum(entry.file_size for entry in entries)
            if num_bytes > len(content) or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise DamagedFile(f"it unpacks to {num_bytes} bytes, and what torch.save writes is not packed")
            damaged = archive.testzip()
    except DamagedFile:
        raise
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise DamagedFile(f"it is no whole zip file: {error}") from None
    if damaged is not None:
        raise DamagedFile(f"{damaged} in it has another checksum than when it was written: its bits have changed since")


def _check_views(loaded: Any, num_bytes: int) -> None:
    """Refuses tensors that show a few numbers again and again: a copy of them would be larger than memory.

    Raises:
        DamagedFile: As `load_plain` says.
    """
    tensors = (value for _, value in _below("", loaded) if isinstance(value, Tensor) and value.layout == torch.strided)
    swollen = sum(one.nbytes for one in tensors if not one.is_meta and one.nbytes > one.untyped_storage().nbytes())
    if swollen > num_bytes:
        raise DamagedFile(f"its tensors unfold to {swollen} bytes, more than it holds")


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
