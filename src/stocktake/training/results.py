"""What a finished run leaves for people and for what has no torch: metrics.json and calibration.json."""

import json
import sys
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from stocktake.callbacks.best import BestCheckpoint
from stocktake.callbacks.calibration import CALIBRATION_KEY
from stocktake.callbacks.spot import SpotCheckpoint
from stocktake.callbacks.validations import Validations
from stocktake.checkpoints import read_checkpoint
from stocktake.data.identity import DATA_KEY
from stocktake.run_folder import CALIBRATION_NAME, METRICS_NAME, check_seal, sealed
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions, split_url


def read_metrics(run_dir: Path, optimized_metric: str) -> dict[str, Any] | None:
    """Returns the metrics.json of a finished run; None where the run has not come so far."""
    path = run_dir / METRICS_NAME
    if not path.is_file():
        return None
    try:
        metrics = json.loads(path.read_text())
        float(metrics[optimized_metric])
        check_seal(metrics)
    except (ValueError, KeyError, TypeError, RecursionError):
        print(f"{path} is not whole, so the run goes on from its newest checkpoint.", file=sys.stderr)
        return None
    return metrics


def write_results(
    run_dir: Path, trainer: Trainer, validations: Validations, optimized_metric: str, storage: StorageOptions
) -> float:
    """Writes metrics.json last of all, so that its presence means that the run is finished; returns the best value.

    The figures are those of the validation that the named checkpoint was saved at; those of the last validation and
    the last steps stand beside them as `last/...`.

    Raises:
        ValueError: `optimized_metric` was never measured.
    """
    best = _kept(trainer, BestCheckpoint)
    kept = best or _kept(trainer, SpotCheckpoint)
    if best is None and optimized_metric not in validations.metrics:
        raise ValueError(f"{optimized_metric=} was never measured; there are {sorted(validations.metrics)}.")
    score = validations.metrics[optimized_metric] if best is None else best.best_model_score
    assert score is not None, "a best checkpoint that was kept has a score"
    value = float(score)
    if best is None:
        rank_zero_info("No best checkpoint was kept: the figures are the last validation's.")
    if kept is not None:
        rank_zero_info(f"{optimized_metric} {value:.2f} in {kept.best_model_path}")
        rank_zero_info(f"Evaluate it: {command('scripts/evaluate.py', {'checkpoint': kept.best_model_path})}")
    if not trainer.is_global_zero:
        return value  # the others need not have the checkpoints
    metrics: dict[str, Any] = validations.metrics
    if kept is not None:
        state = read_checkpoint(kept.best_model_path, storage)
        measured = state.get("callbacks", {}).get(validations.state_key, {"metrics": {}})  # before them there were none
        metrics = measured["metrics"] | {"checkpoint": kept.best_model_path, "checkpoint_step": state["global_step"]}
        if DATA_KEY in state:
            metrics["manifest_sha256"] = state[DATA_KEY]["manifest_sha256"]
        if CALIBRATION_KEY in state:
            content = json.dumps(state[CALIBRATION_KEY], indent=2) + "\n"
            Folder(split_url(kept.best_model_path)[0], storage).write(CALIBRATION_NAME, content.encode())
    last = {name: float(figure) for name, figure in trainer.callback_metrics.items()}
    last = validations.of_step | last | validations.metrics  # a run that was resumed after its end took no step
    metrics = metrics | {optimized_metric: value} | {f"last/{name}": figure for name, figure in last.items()}
    metrics["steps"] = trainer.global_step
    Folder(str(run_dir)).write(METRICS_NAME, (json.dumps(sealed(metrics), indent=2) + "\n").encode())
    return value


def _kept(trainer: Trainer, kind: type[ModelCheckpoint]) -> ModelCheckpoint | None:
    """Returns the callback of this kind, if it is on and has kept a checkpoint."""
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, kind) and c.best_model_path), None)
