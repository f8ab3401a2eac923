"""What a model has seen of the bins that it is measured on, and of their kind."""

from collections.abc import Mapping
from typing import Any

import pyarrow

from stocktake.data.identity import DataIdentity
from stocktake.data.manifest import Manifest
from stocktake.evaluation.image_statistics import are_drawn
from stocktake.storage import Folder, join_url


def measure_leakage(
    trained_on: DataIdentity | None,
    train_data: Mapping[str, Any],
    manifest: Manifest,
    root: Folder,
    rows: pyarrow.Table,
) -> dict[str, Any]:
    """Returns the part of metrics.json about what the model has seen.

    `leakage` is the number of the rows that it was trained on, `train_manifest_sha256` that of the dataset of its
    training, both None where its checkpoint does not say. `synthetic` is whether the bins are drawn ones, and
    `trained_on_synthetic` whether those were that it was trained on.

    Args:
        trained_on: What the checkpoint says of its training data.
        train_data: The part `data` of the run's configuration.
        manifest: Of the bins that are measured.
        root: Their dataset root.
        rows: Those of the manifest that are measured.
    """
    synthetic = are_drawn(manifest, root)
    if trained_on is None:
        was_drawn = str(train_data.get("_target_", "")).endswith("SyntheticBinDataModule")
    elif trained_on.manifest_sha256 == manifest.sha256:
        was_drawn = synthetic
    else:
        was_drawn = trained_on.source == join_url(Folder(train_data["root"]).url, "source")
    return {
        "leakage": None if trained_on is None else trained_on.num_seen(manifest, rows),
        "train_manifest_sha256": None if trained_on is None else trained_on.manifest_sha256,
        "synthetic": synthetic,
        "trained_on_synthetic": was_drawn,
    }
