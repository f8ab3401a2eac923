"""What an experiment has to do, for an estimate of its costs: steps, images, and how fast a run of it was."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stocktake.cloud.cost_estimate import ASSUMED_START, Workload, num_batches
from stocktake.cloud.costs import COST_NAME, JobCost
from stocktake.cloud.training_rates import VALIDATED, Range, Rate
from stocktake.data.manifest import MANIFEST_KEY, Manifest
from stocktake.run_folder import CONFIG_NAME
from stocktake.storage import Folder, is_local, local_path
from stocktake.training.throughput_log import read_throughput

DRAWS = "SyntheticBinDataModule"
# How many of a source's images come to train and valid, assumed where no manifest says it: shares of the 6,003 bins in
# docs/results.md, and of drawn ones by conf/split_rule.
PUBLIC_LIST, ALL_OF_ABID = 10_441, 535_234
SHARES, DRAWN_SHARES = (4022 / 6003, 837 / 6003), (0.7, 0.15)
TYPED_SPREAD = 0.1  # on either side of a rate that was typed


@dataclass(frozen=True)
class MeasuredRun:
    """A run that says how fast an instance is at this.

    Attributes:
        start: Of its job, seconds in which nothing was trained; `None` where no job is known of it.
    """

    rate: Rate
    num_instances: int
    start: Range | None


def measured_run(folder: str) -> MeasuredRun:
    """Reads how fast a run was, and of a job how long it began and ended.

    Raises:
        ValueError: It has no such log.
    """
    run_dir = Path(folder)
    found = read_throughput(run_dir) if run_dir.is_dir() else None
    if found is None:
        raise ValueError(
            f"run={folder} has no log of how fast it was (csv/version_0/metrics.csv with train/time). Train with "
            "logger=csv for more than trainer.log_every_n_steps steps, or type images_per_s=<of one instance>"
        )
    trainer = yaml.safe_load((run_dir / CONFIG_NAME).read_text())["trainer"]
    devices = trainer["devices"] if isinstance(trainer["devices"], int) else 1
    per_s = Range(found.images_per_s, found.low, found.high) * devices
    validated = per_s * VALIDATED
    if found.validated_per_s is not None:
        validated = Range.around(found.validated_per_s * devices, TYPED_SPREAD)
    start = None
    if (run_dir / COST_NAME).is_file():
        job = JobCost.read(run_dir / COST_NAME)
        start = Range.around(max(0.0, job.training_s - found.training_s - found.validation_s), TYPED_SPREAD)
    return MeasuredRun(Rate(per_s, validated, True, f"measured in {folder}"), trainer["num_nodes"], start)


def workload_of(plain: Mapping[str, Any], notes: list[str], run: MeasuredRun | None = None) -> Workload:
    """Returns what an experiment has to do.

    Args:
        plain: Its configuration, and of conf/cost.yaml's keys those that say more of it.
        notes: What is assumed is added to it.

    Raises:
        ValueError: How long the training is stands nowhere.
    """
    data, trainer = plain["data"], plain["trainer"]
    num_train, num_valid = _num_images(plain, notes)
    batches = num_batches(num_train, data["batch_size"], trainer.get("limit_train_batches"), is_training=True)
    epochs = trainer["max_epochs"]
    steps = trainer.get("max_steps", -1)
    if epochs in (None, -1) and steps in (None, -1):
        raise ValueError("How long the training is says neither trainer.max_epochs nor max_steps. Type one of them")
    if epochs in (None, -1):
        epochs = math.ceil(steps / batches)
    num_steps = epochs * batches if steps in (None, -1) else min(epochs * batches, steps)
    valid_batches = num_batches(num_valid, data["batch_size"], trainer.get("limit_val_batches"), is_training=False)
    seen_valid = min(num_valid, valid_batches * data["batch_size"])
    validations = epochs // (trainer.get("check_val_every_n_epoch") or 1)
    is_drawn = str(data["_target_"]).endswith(DRAWS)
    sets = 1 if data["cache_dir"] or str(data["root"]).startswith("/opt/ml/") else None
    read = num_train + num_valid if sets else num_steps * data["batch_size"] + validations * seen_valid
    if plain.get("start_s") is not None:
        start = Range.around(plain["start_s"], TYPED_SPREAD)
    elif run and run.start:
        start = run.start
    else:
        start = ASSUMED_START
        notes.append(
            f"Assumed: {start.value:g} s ({start.low:g} to {start.high:g}) before the first step and after the last. "
            "start_s= says it better."
        )
    return Workload(
        plain["model"]["backbone"],
        num_steps,
        data["batch_size"],
        validations,
        seen_valid,
        0 if is_drawn else read,
        plain["compute"]["volume_gb"],
        start,
    )


def _num_images(plain: Mapping[str, Any], notes: list[str]) -> tuple[int, int]:
    data = plain["data"]
    num_train, num_valid = _manifested(data["root"]) or _assumed_images(data, plain, notes)
    num_train = plain.get("num_train_images") or num_train
    num_valid = plain.get("num_valid_images") or num_valid
    most = data["limit"] or math.inf
    return int(min(num_train, data["num_train_bins"] or math.inf, most)), int(min(num_valid, most))


def _manifested(root: str) -> tuple[int, int] | None:
    if not is_local(root) or not (Path(local_path(root)) / MANIFEST_KEY).is_file():
        return None
    splits = Manifest.read(Folder(root)).table["split"].to_pylist()
    return splits.count("train"), splits.count("valid")


def _assumed_images(data: Mapping[str, Any], plain: Mapping[str, Any], notes: list[str]) -> tuple[int, int]:
    if str(data["_target_"]).endswith(DRAWS):
        return round(DRAWN_SHARES[0] * data["num_bins"]), round(DRAWN_SHARES[1] * data["num_bins"])
    num_images, name = PUBLIC_LIST, "the public list"
    if "abid-full" in str(data["root"]):
        num_images, name = ALL_OF_ABID, "all of Amazon's bins"
    num_train, num_valid = (round(share * num_images) for share in SHARES)
    if not (plain.get("num_train_images") and plain.get("num_valid_images")):
        notes.append(
            f"Assumed: {num_train:,} images to train and {num_valid:,} to validate, as of {name}; no manifest lies in "
            f"data.root={data['root']}. num_train_images= and num_valid_images= say it better."
        )
    return num_train, num_valid
