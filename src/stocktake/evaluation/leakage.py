"""What a model has seen of the bins that it is measured on, and of their kind."""

import sys
from collections.abc import Mapping
from typing import Any

import pyarrow

from stocktake.checkpoints import Checkpoint
from stocktake.data.datamodule import BinDataModule
from stocktake.data.manifest import Manifest, ManifestError
from stocktake.evaluation.image_statistics import are_drawn
from stocktake.evaluation.subject import Subject
from stocktake.storage import Folder, StorageOptions, join_url


def describe_subject(
    checkpoint: Checkpoint, datamodule: BinDataModule, split: str, rows: pyarrow.Table, flip_tta: bool = False
) -> Subject:
    """Returns which model is measured on which bins, and what it has seen of them.

    Args:
        datamodule: Of the bins that are measured.
        rows: Those of its manifest that are measured.
        flip_tta: Whether each is counted together with its mirror image.
    """
    trained_on, manifest, root = checkpoint.data, datamodule.manifest, datamodule.root
    train_data = checkpoint.config["data"]
    synthetic = are_drawn(manifest, root)
    if trained_on is None:
        was_drawn = str(train_data.get("_target_", "")).endswith("SyntheticBinDataModule")
    elif trained_on.manifest_sha256 == manifest.sha256:
        was_drawn = synthetic
    else:
        was_drawn = trained_on.source == join_url(Folder(train_data["root"]).url, "source")
    return Subject(
        checkpoint=checkpoint.location,
        checkpoint_sha256=checkpoint.sha256,
        root=root.url,
        split=split,
        num_images=rows.num_rows,
        manifest_sha256=manifest.sha256,
        leakage=None if trained_on is None else trained_on.num_seen(manifest, rows),
        train_manifest_sha256=None if trained_on is None else trained_on.manifest_sha256,
        synthetic=synthetic,
        trained_on_synthetic=was_drawn,
        flip_tta=flip_tta,
    )


def count_train_bins(checkpoint: Checkpoint, storage: StorageOptions) -> int | None:
    """Returns on how many bins a model was trained, or None (and says why) where that is not known.

    It is what the checkpoint says; old ones leave it to be counted in the root, which may have been split anew.
    """
    if checkpoint.data is not None:
        return checkpoint.data.num_train_bins
    data: Mapping[str, Any] = checkpoint.config["data"]
    # A run from before num_train_bins was a key saw all bins.
    chosen = {name: data.get(name) for name in ("limit", "counts", "num_train_bins")}
    try:
        return Manifest.read(Folder(data["root"], storage)).rows("train", **chosen, seed=data["seed"]).num_rows
    except (ManifestError, OSError) as error:
        print(f"On how many bins it was trained is not known: {error}", file=sys.stderr)
        return None
