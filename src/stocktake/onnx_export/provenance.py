"""Where an exported model comes from: networks, licenses, evaluation, commit."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from stocktake.checkpoints import Checkpoint
from stocktake.evaluation.evaluation_result import EvaluationResult
from stocktake.evaluation.file_formats import read_metrics
from stocktake.metrics.calibration import Calibration
from stocktake.model.counter import BinCounter
from stocktake.model.ensemble import Ensemble
from stocktake.run_folder import METRICS_NAME, run_dir_of
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions, join_url, split_url


def describe_networks(counter: BinCounter | Ensemble, config: dict[str, Any]) -> dict[str, str]:
    """Returns `backbone`, `head` and `weights_license`, of an ensemble those of all members."""
    members = list(_members(counter, config))
    return {
        "backbone": " + ".join(own["model"]["backbone"] for _, own in members),
        "head": " + ".join(own["model"]["head"]["_target_"].split(".")[-1] for _, own in members),
        "weights_license": "; ".join(dict.fromkeys(_weights_license(member, own) for member, own in members)),
    }


def _members(counter: BinCounter | Ensemble, config: dict[str, Any]) -> Iterator[tuple[BinCounter, dict[str, Any]]]:
    """Yields each network with the configuration of the run that trained it."""
    if isinstance(counter, Ensemble):
        yield from zip(counter.counters, config["members"], strict=True)
    else:
        yield counter, config


def _weights_license(counter: BinCounter, config: dict[str, Any]) -> str:
    """Returns the license of the weights that the training began with, as far as anything here states it."""
    began_with = config["model"].get("weights")
    if config.get("checkpoint"):
        return "not stated: the training went on from another run"
    if began_with in (None, "none"):
        return "none: trained from scratch"
    if began_with == "imagenet":
        return counter.backbone.pretrained_cfg.get("license") or "not stated by timm"
    return "not stated: weights from a file of one's own"


def evaluation_of(checkpoint: Checkpoint, location: str | None, storage: StorageOptions) -> EvaluationResult | None:
    """Returns an evaluation of what this very checkpoint is exported as, `None` where none lies beside the run.

    Raises:
        ValueError: The one that `metrics` names is of another checkpoint, of mirror images too, or half written.
    """
    run_dir = run_dir_of(checkpoint.location)
    beside = None if run_dir is None else join_url(run_dir, "evaluation-test", METRICS_NAME)
    if (file := location or beside) is None:
        return None
    try:
        result = read_metrics(read_file(file, storage))
    except FileNotFoundError:
        if location is None:
            return None
        raise
    except ValueError as error:
        result, fault = None, str(error)
    else:
        fault = "is of another checkpoint"
    if result is not None and _is_of(result, checkpoint):
        if not result.subject.flip_tta:
            return result
        fault = "counts each image together with its mirror image (flip_tta=true), as an exported model does not"
    if location is None:
        print(f"{file} {fault}; it is left out.", file=sys.stderr)
        return None
    evaluate = command("scripts/evaluate.py", {"checkpoint": checkpoint.location})
    raise ValueError(f"metrics={location} {fault}. Evaluate this one: {evaluate}")


def read_recalibration(content: bytes, location: str, checkpoint: Checkpoint) -> Calibration:
    """Returns a calibration that scripts/monitor.py fitted to true counts of this checkpoint's answers.

    Raises:
        ValueError: It is no such file, or of another checkpoint.
    """
    try:
        plain = json.loads(content)
        calibration, sha256 = Calibration.from_dict(plain["calibration"]), plain["checkpoint_sha256"]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"calibration={location} is none that scripts/monitor.py wrote ({str(error)[:100]}). "
            "Type the file that it was given as recalibration, or calibration=null."
        ) from None
    if sha256 != checkpoint.sha256 or calibration.counts != list(checkpoint.model.counts):
        raise ValueError(
            f"calibration={location} was fitted to answers of another checkpoint (checkpoint_sha256 is {sha256}, this "
            f"one's {checkpoint.sha256}). Type that checkpoint, or calibration=null."
        )
    return calibration


def without_locations(evaluation: EvaluationResult | None) -> dict[str, Any] | None:
    """Returns what model.json says of an evaluation: all but where its files lie on this machine."""
    if evaluation is None:
        return None
    return {name: value for name, value in evaluation.to_json().items() if name not in ("checkpoint", "root")}


def _is_of(result: EvaluationResult, checkpoint: Checkpoint) -> bool:
    if result.subject.checkpoint_sha256 is not None:
        return result.subject.checkpoint_sha256 == checkpoint.sha256
    # An older one. The temperature is fitted to the weights, so no two checkpoints have the same.
    mine, its = checkpoint.calibration, result.calibration
    return mine is not None and its is not None and its.temperature == mine.temperature


def commit() -> str | None:
    """Returns the commit of the code in the working directory, `None` where it is no repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def read_file(location: str, storage: StorageOptions) -> bytes:
    """Returns the bytes of a file, by path or URL."""
    folder, name = split_url(location)
    return Folder(folder, storage).read(name)
