"""Which data a model was trained on: kept in its checkpoints, so that it is known later what the model has seen.

Axes: N training bins.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy
import pyarrow
import torch
from numpy import ndarray

from stocktake.data.manifest import Manifest
from stocktake.seeding import derive_seed

DATA_KEY = "stocktake_data"  # where it lies in a checkpoint


class IdentityError(ValueError):
    """What a checkpoint holds of its data is not what this project writes there."""


@dataclass(frozen=True)
class DataIdentity:
    """The manifest that a model was trained by, and the bins of it that were trained on.

    Attributes:
        manifest_sha256: Of manifest.parquet.
        source: Where the bins were collected from.
        num_train_bins: Bins that were trained on, those of a run that this one goes on from among them.
        image_hashes_N: First 63 bits of each image's sha256, int64, sorted, each once.
        id_hashes_N: 63 bits of (source, image id), likewise.
    """

    manifest_sha256: str
    source: str
    num_train_bins: int
    image_hashes_N: ndarray
    id_hashes_N: ndarray

    @classmethod
    def of(cls, manifest: Manifest, train_rows: pyarrow.Table) -> Self:
        """Returns the identity of a training on `train_rows` of the manifest."""
        source = manifest.origin["source"]
        return cls(
            manifest.sha256,
            source,
            train_rows.num_rows,
            numpy.unique(_image_hashes(train_rows)),
            numpy.unique(_id_hashes(source, train_rows)),
        )

    def including(self, earlier: Self) -> Self:
        """Returns this identity with the bins that an earlier run, whose weights this one began with, had seen."""
        id_hashes_N = numpy.union1d(self.id_hashes_N, earlier.id_hashes_N)
        return type(self)(
            self.manifest_sha256,
            self.source,
            len(id_hashes_N),
            numpy.union1d(self.image_hashes_N, earlier.image_hashes_N),
            id_hashes_N,
        )

    def num_seen(self, manifest: Manifest, rows: pyarrow.Table) -> int:
        """Returns how many of the rows the model was trained on: the same image, or the same id of the same source."""
        same_image = numpy.isin(_image_hashes(rows), self.image_hashes_N)
        same_id = numpy.isin(_id_hashes(manifest.origin["source"], rows), self.id_hashes_N)
        return int((same_image | same_id).sum())

    def to_state(self) -> dict[str, Any]:
        """Returns plain values and tensors, which torch loads under `weights_only`."""
        return {
            "manifest_sha256": self.manifest_sha256,
            "source": self.source,
            "num_train_bins": self.num_train_bins,
            "image_hashes_N": torch.from_numpy(self.image_hashes_N),
            "id_hashes_N": torch.from_numpy(self.id_hashes_N),
        }

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """Reads what `to_state` wrote.

        Raises:
            IdentityError: It is something else.
        """
        kinds = {
            "manifest_sha256": str,
            "source": str,
            "num_train_bins": int,
            "image_hashes_N": torch.Tensor,
            "id_hashes_N": torch.Tensor,
        }
        if not isinstance(state, dict) or state.keys() != kinds.keys():
            raise IdentityError(f"The checkpoint's {DATA_KEY} must hold {', '.join(kinds)}.")
        for name, kind in kinds.items():
            value = state[name]
            is_hashes = isinstance(value, torch.Tensor) and value.ndim == 1 and value.dtype == torch.int64
            if not isinstance(value, kind) or (kind is torch.Tensor and not is_hashes):
                raise IdentityError(f"The checkpoint's {DATA_KEY}.{name} is not what this project writes there.")
        return cls(**{name: value.numpy() if kinds[name] is torch.Tensor else value for name, value in state.items()})


def _image_hashes(rows: pyarrow.Table) -> ndarray:
    # An image that was set aside before it was fetched has none; no training bin is such.
    return _hashes(int(sha256[:16], 16) >> 1 if sha256 else -1 for sha256 in rows["sha256"].to_pylist())


def _id_hashes(source: str, rows: pyarrow.Table) -> ndarray:
    return _hashes(derive_seed("image", source, image_id) for image_id in rows["image_id"].to_pylist())


def _hashes(values: Iterable[int]) -> ndarray:
    return numpy.fromiter(values, dtype=numpy.int64)
