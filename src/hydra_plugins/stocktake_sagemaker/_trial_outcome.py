"""How a trial ended: by what its launcher returned, or by what lies in its folder; and its figure on the test side.

Its name begins with _, so that Hydra does not import it, and Optuna with it, at each start.
"""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins.stocktake_sagemaker.results import FinishedJob, StoppedByWatch
from stocktake.run_folder import BEST_KEY, METRICS_NAME, check_seal
from stocktake.shell import command, hydra_value, override
from stocktake.tuning.search import Outcome
from stocktake.tuning.trials import Trial

PRUNED = "stopped early: worse than other trials were by then"


def returned_outcome(returned: JobReturn, is_pruned: bool, metric: str) -> Outcome:
    """
    Args:
        returned: A launcher's; its `return_value` would raise the trial's error.
        is_pruned: Whether the search stopped the trial, or the trial itself.
        metric: That is searched for.
    """
    assert returned.hydra_cfg is not None, "launchers return what they composed"
    folder, value = str(returned.hydra_cfg.hydra.runtime.output_dir), returned._return_value
    if not isinstance(returned, FinishedJob):
        if returned.status is JobStatus.COMPLETED:
            return outcome_of(value, is_pruned, folder, metric)
        return Outcome("failed", folder, reason=_first_line(value))
    cost_usd = returned.cost_usd
    if is_pruned or isinstance(value, StoppedByWatch):  # which a search may have done before it was killed
        return Outcome("pruned", folder, reason=PRUNED, cost_usd=cost_usd)
    if returned.status is JobStatus.COMPLETED:
        return outcome_of(value, False, folder, metric, cost_usd)
    return Outcome("failed", folder, reason=_first_line(value), cost_usd=cost_usd)


def outcome_of(value: Any, is_pruned: bool, folder: str, metric: str, cost_usd: float | None = None) -> Outcome:
    """Of a training that came to its end, or was ended before because it was worse than others."""
    if is_pruned:
        return Outcome("pruned", folder, reason=PRUNED, cost_usd=cost_usd)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return Outcome("failed", folder, reason=f"{metric} is {value}", cost_usd=cost_usd)
    return Outcome("complete", folder, score=float(value), cost_usd=cost_usd)


def finished_score(folder: Path, metric: str) -> float | None:
    """Returns what a trial got that ended when nobody was there to be told; None where it did not end."""
    try:
        metrics = json.loads((folder / METRICS_NAME).read_text())
        check_seal(metrics)
        return float(metrics[metric])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def measure_test_figure(best: Trial, config_folder: Path) -> None:
    """Measures a trial on the test side by scripts/evaluate.py, into its folder, unless that was done before.

    It is a process of its own, as it would be typed: this one stays without torch.

    Raises:
        ValueError: It cannot be measured.
    """
    checkpoint = Path(best.folder, BEST_KEY)
    if Path(best.folder, "evaluation-test", METRICS_NAME).is_file():
        return
    script = config_folder.parent / "scripts" / "evaluate.py"
    if not checkpoint.is_file():
        raise ValueError(
            f"hydra.sweeper.evaluate=true: the checkpoint of trial {best.number} is not on this machine. Fetch it, and "
            f"type {command('scripts/evaluate.py', {'checkpoint': '<its best.ckpt>'})}"
        )
    print(f"Measures trial {best.number} on the test side, once.", flush=True)
    arguments = [sys.executable, str(script), f"checkpoint={hydra_value(str(checkpoint))}"]
    done = subprocess.run(arguments, check=False)  # noqa: S603 - arguments, no shell
    if done.returncode:
        raise ValueError(f"{override('checkpoint', checkpoint)}: scripts/evaluate.py ended with {done.returncode}")


def _first_line(error: Any) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
