"""A checkpoint rebuilds its model alone: the configuration that made it lies in it as plain values."""

import io
import sys
from collections.abc import Mapping
from typing import Any

import torch

from stocktake.calibration import Calibration
from stocktake.callbacks.run_config import CONFIG_KEY
from stocktake.config import build
from stocktake.data.datamodule import BinDataModule
from stocktake.data.manifest import ManifestError
from stocktake.model.counter import CALIBRATION_KEY, BinCounter
from stocktake.model.ensemble import Ensemble
from stocktake.storage import Folder, StorageOptions


class CheckpointError(ValueError):
    """A checkpoint that is missing, broken, or not one of this project's."""


def load_counter(
    checkpoint: str, storage: StorageOptions | None = None
) -> tuple[BinCounter | Ensemble, dict[str, Any]]:
    """Returns the model of a checkpoint, in evaluation mode and with its calibration, and the configuration of its run.

    Raises:
        CheckpointError: As `read_checkpoint` does.
    """
    state = read_checkpoint(checkpoint, storage)
    config = state[CONFIG_KEY]
    model = build(_for_counting(config["model"]))
    model.load_state_dict(state["state_dict"])
    if CALIBRATION_KEY in state:
        model.calibration = Calibration.from_dict(state[CALIBRATION_KEY])
    return model.eval(), config


def _for_counting(model: dict[str, Any]) -> dict[str, Any]:
    """Returns a model's configuration, or that of an ensemble's, without what only training needs."""
    if "members" in model:
        return model | {"members": [_for_counting(member) for member in model["members"]]}
    # To compile takes longer than to look at a few thousand pictures.
    return model | {"weights": "none", "optimizer": None, "scheduler": None, "torch_compile": False}


def read_checkpoint(checkpoint: str, storage: StorageOptions | None = None) -> dict[str, Any]:
    """Returns what a checkpoint of train.py or ensemble.py holds.

    Raises:
        CheckpointError: There is no such file, it is corrupt, or neither of them made it.
    """
    folder, _, name = checkpoint.rpartition("/")
    try:
        content = Folder(folder or ".", storage or StorageOptions()).read(name)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"checkpoint={checkpoint}: {error} Type the path of a run's checkpoints/best.ckpt."
        ) from None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen different ones for a broken file
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(
            f"checkpoint={checkpoint} is broken or cut off ({len(content)} bytes): {reason}"
        ) from None
    if not isinstance(state, dict) or CONFIG_KEY not in state:
        raise CheckpointError(
            f"checkpoint={checkpoint} holds no configuration of a run; it was not made by train.py. To start from mere "
            f"weights, type train.py ... model.weights={checkpoint}"
        )
    return state


def start_from(module: BinCounter, checkpoint: str, storage: StorageOptions | None = None) -> None:
    """Gives a model the weights of a finished run, its head's among them.

    Raises:
        CheckpointError: It cannot be read, or it is of another backbone, head or other counts.
    """
    finished, config = load_counter(checkpoint, storage)
    if isinstance(finished, Ensemble):
        raise CheckpointError(f"checkpoint={checkpoint} is an ensemble. Type the checkpoint of one of its members.")
    try:
        if finished.counts != module.counts:
            raise RuntimeError(f"it tells {finished.counts} apart, not {module.counts}")
        module.load_state_dict(finished.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"checkpoint={checkpoint} does not fit this model ({reason}). It was trained with "
            f"model.backbone={config['model']['backbone']} head={config['head']['_target_'].split('.')[-1]} "
            f"data.counts={config['data']['counts']}: type the same."
        ) from None


def count_train_bins(data: Mapping[str, Any], storage: StorageOptions | None = None) -> int | None:
    """Returns on how many bins a run was trained, or None (and says why) where its dataset root is out of reach.

    Args:
        data: The part `data` of the run's configuration.
    """
    # A run from before num_train_bins was a key saw all bins.
    chosen = {name: data.get(name) for name in ("root", "batch_size", "counts", "limit", "num_train_bins", "seed")}
    try:
        return BinDataModule(**chosen, num_workers=0, storage=storage).rows("train").num_rows
    except (ManifestError, OSError) as error:
        print(f"On how many bins it was trained is not known: {error}", file=sys.stderr)
        return None
