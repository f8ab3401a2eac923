"""A checkpoint rebuilds its model alone: the configuration that made it lies in it as plain values.

What is in a checkpoint is data. The model is built by its name, out of a table, and nothing else in it is built at all.
"""

import hashlib
import io
import os
import zipfile
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any, Self

from stocktake.callbacks.calibration import CALIBRATION_KEY
from stocktake.callbacks.run_config import CONFIG_KEY
from stocktake.cli.local_files import CHECKPOINT_NAMES, TYPE_CHECKPOINT, there_instead
from stocktake.cli.rules import Rule
from stocktake.cli.training_keys import DATA, MODEL
from stocktake.data.datamodule import BinDataModule
from stocktake.data.identity import DATA_KEY, DataIdentity, IdentityError
from stocktake.metrics.calibration import Calibration
from stocktake.model.counter import BinCounter
from stocktake.model.ensemble import Ensemble
from stocktake.model.registry import Classes, DescriptionError, check_arguments, check_plain, model_from
from stocktake.model.torch_files import ZIP_START, check_finite, load_plain, named_tensors
from stocktake.run_folder import BEFORE_NAME, BEST_NAME
from stocktake.shell import override
from stocktake.storage import Folder, StorageOptions, is_local, join_url, local_path, split_url

SHA256_KEY = "stocktake_sha256"  # of the file, beside what it holds
# Of the run's `data`, what is asked of a finished model.
USED_OF_DATA = ("root", "batch_size", "image_size_px", "resize", "counts", "limit", "num_train_bins", "seed")
USED_OF_MODEL = ("counts", "drop_rate", "mean", "std")  # numbers; what is named is looked up by its builder


class CheckpointError(ValueError):
    """A checkpoint that is missing, broken, or not one of this project's."""


@dataclass(frozen=True)
class Checkpoint:
    """A finished model and what its file says of its making.

    Attributes:
        location: Path or URL of the file.
        sha256: Of the file.
        model: In evaluation mode; what it says is untempered.
        calibration: How far that may be believed; `None` where it was not saved after a validation.
        config: Of the run that made it, plain values.
        data: What it was trained on; `None` in files from before this was kept.
    """

    location: str
    sha256: str
    model: BinCounter | Ensemble
    calibration: Calibration | None
    config: dict[str, Any]
    data: DataIdentity | None

    @classmethod
    def open(cls, location: str, storage: StorageOptions | None = None) -> Self:
        """Reads a checkpoint, or that of the run's folder that `location` names.

        Raises:
            CheckpointError: As `read_checkpoint` and `counter_of` do.
        """
        location = find_checkpoint(location, storage)
        state = read_checkpoint(location, storage)
        model, calibration = counter_of(state, location), calibration_of(state, location)
        if calibration is not None and calibration.counts != list(model.counts):
            raise CheckpointError(
                f"checkpoint={location} is refused: its calibration is of the counts {calibration.counts}, and its "
                f"model tells {list(model.counts)} apart."
            )
        return cls(location, state[SHA256_KEY], model, calibration, state[CONFIG_KEY], identity_of(state, location))


def identity_of(state: dict[str, Any], checkpoint: str) -> DataIdentity | None:
    """Returns what the model of a checkpoint was trained on, `None` in files from before this was kept.

    Raises:
        CheckpointError: The file says something that this project does not write.
    """
    try:
        return DataIdentity.from_state(state[DATA_KEY]) if DATA_KEY in state else None
    except IdentityError as error:
        raise CheckpointError(f"checkpoint={checkpoint} is refused: {error}") from None


def calibration_of(state: dict[str, Any], checkpoint: str) -> Calibration | None:
    """Returns how the model of a checkpoint is tempered, `None` where it was not saved after a validation.

    Raises:
        CheckpointError: The file says something that this project does not write.
    """
    try:
        return Calibration.from_dict(state[CALIBRATION_KEY]) if CALIBRATION_KEY in state else None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"checkpoint={checkpoint} is refused: {_in_short(error, 500)}") from None


def counter_of(state: dict[str, Any], checkpoint: str, own: Classes | None = None) -> BinCounter | Ensemble:
    """Returns the model that a checkpoint describes: the one way from a file to an object.

    Args:
        state: What `read_checkpoint` gave.
        checkpoint: Where it is from, for messages.
        own: Models and heads besides this project's that it may name.

    Raises:
        CheckpointError: It describes a model that is none of this project's, or other weights than that has.
    """
    try:
        description = state[CONFIG_KEY]["model"]
        model = model_from(description, own)
        for part in description.get("members") or [description]:
            _check_ranges({key: part[key] for key in USED_OF_MODEL if key in part}, MODEL, "model")
        model.load_state_dict(named_tensors(state.get("state_dict") or {}))
        check_finite(model)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint={checkpoint} is refused: {_in_short(error, 500)}") from None
    return model.eval()


def read_checkpoint(checkpoint: str, storage: StorageOptions | None = None) -> dict[str, Any]:
    """Returns what a checkpoint of train.py or ensemble.py holds, and its checksum as `SHA256_KEY`.

    All of it is tensors and plain values.

    Args:
        checkpoint: Path or URL, also of the run's folder.

    Raises:
        CheckpointError: There is no such file, it is corrupt, or neither of them made it.
    """
    checkpoint = find_checkpoint(checkpoint, storage)
    folder, name = split_url(checkpoint)
    parent = Folder(folder, storage or StorageOptions())
    try:
        content = parent.read(name)
    except FileNotFoundError:
        there = there_instead(checkpoint) if is_local(checkpoint) else ""
        raise CheckpointError(f"checkpoint={checkpoint} does not exist{there}. {TYPE_CHECKPOINT}.") from None
    try:
        state = load_plain(content)
    except Exception as error:  # torch raises a dozen different ones for a broken file
        before = join_url(folder, BEFORE_NAME)
        is_kept = name == BEST_NAME and parent.exists(BEFORE_NAME)
        instead = f" The best before it is there: {override('checkpoint', before)}" if is_kept else ""
        raise CheckpointError(f"checkpoint={checkpoint} {_broken(content, error)}{instead}") from None
    if not isinstance(state, dict) or CONFIG_KEY not in state:
        raise CheckpointError(
            f"checkpoint={checkpoint} holds no configuration of a run; it was not made by train.py. To start from mere "
            f"weights, type train.py ... model.weights={checkpoint}"
        )
    try:
        check_config(state[CONFIG_KEY])
    except (DescriptionError, RecursionError) as error:
        raise CheckpointError(f"checkpoint={checkpoint} is refused: {_in_short(error, 500)}") from None
    return state | {SHA256_KEY: hashlib.sha256(content).hexdigest()}


def find_checkpoint(location: str, storage: StorageOptions | None = None) -> str:
    """Returns the path or URL of a checkpoint, where it or its run's folder is named."""
    location = location.rstrip("/") or location
    if location.endswith(".ckpt") or (
        is_local(location) and os.path.lexists(local_path(location)) and not local_path(location).is_dir()
    ):
        return location
    folder = Folder(location, storage or StorageOptions())
    inside = (key for key in CHECKPOINT_NAMES if folder.exists(key))
    return next((join_url(location, key) for key in inside), location)


def check_config(config: Any) -> None:
    """
    Raises:
        DescriptionError: It is not a run's configuration of plain values, in which all interpolations are resolved.
    """
    check_plain(config)
    parts = {"name": str, "model": dict, "data": dict}
    if odd := [key for key, kind in parts.items() if not isinstance(config, dict) or type(config.get(key)) is not kind]:
        raise DescriptionError(f"its configuration has no {' or '.join(odd)} like that of a run.")
    used = {key: value for key, value in config["data"].items() if key in USED_OF_DATA}
    if missing := [key for key in ("root", "image_size_px", "resize", "counts") if key not in used]:
        raise DescriptionError(f"its configuration lacks data.{missing[0]}.")
    check_arguments(used, BinDataModule, "data")
    _check_ranges(used, DATA, "data")
    for member in config.get("members") or []:
        check_config(member)


def _check_ranges(values: dict[str, Any], rules: dict[str, Rule], name: str) -> None:
    if wrong := [key for key, value in values.items() if value is not None and not rules[key].admits(value)]:
        raise DescriptionError(f"{name}.{wrong[0]}={values[wrong[0]]!r:.200}, but {rules[wrong[0]]} is needed.")


def _broken(content: bytes, error: Exception) -> str:
    """Returns what is wrong with a file that torch does not read, without torch's advice to trust it nevertheless."""
    if not content.startswith(ZIP_START):
        return f"is no checkpoint ({len(content)} bytes, which do not begin like one). {TYPE_CHECKPOINT}."
    if isinstance(error, UnpicklingError) and zipfile.is_zipfile(io.BytesIO(content)):
        return (
            "holds something else than tensors and plain values, which could run code when it is read. It is refused: "
            "train.py writes no such file."
        )
    return f"is broken or cut off ({len(content)} bytes): {_in_short(error, 200)}"


def _in_short(error: Exception, length: int) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:length]


def start_from(module: BinCounter, checkpoint: str, storage: StorageOptions | None = None) -> None:
    """Gives a model the weights of a finished run, its head's among them.

    Raises:
        CheckpointError: It cannot be read, or it is of another backbone, head or other counts.
    """
    state = read_checkpoint(checkpoint, storage)
    own = {f"{type(part).__module__}.{type(part).__qualname__}": type(part) for part in (module, module.head)}
    finished, config = counter_of(state, checkpoint, own), state[CONFIG_KEY]
    if isinstance(finished, Ensemble):
        raise CheckpointError(f"checkpoint={checkpoint} is an ensemble. Type the checkpoint of one of its members.")
    try:
        if finished.counts != module.counts:
            raise RuntimeError(f"it tells {finished.counts} apart, not {module.counts}")
        module.load_state_dict(finished.state_dict())
    except RuntimeError as error:
        raise CheckpointError(
            f"checkpoint={checkpoint} does not fit this model ({_in_short(error, 200)}). It was trained with "
            f"model.backbone={config['model']['backbone']} head={config['model']['head']['_target_'].split('.')[-1]} "
            f"data.counts={config['data']['counts']}: type the same."
        ) from None
