"""What a rehearsed job was billed, and what an estimate makes of its log: both of the real thing, on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from stocktake.cloud.cost_estimate import compared
from stocktake.cloud.costs import COST_NAME, JobCost
from stocktake.cloud.prices import Prices
from stocktake.config import as_plain
from stocktake.training.cost_workload import measured_run, workload_of

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_an_estimate_from_a_rehearsed_run_is_within_a_fifth_of_its_bill(compose, tmp_path):
    words = ["experiment=demo", "data.num_bins=300", "data.image_size_px=64", "trainer.max_epochs=3", "logger=csv"]
    words += ["trainer.log_every_n_steps=1", "callbacks.throughput.window_size=3", "data.num_workers=0"]
    words += [f"data.root={tmp_path}/synthetic-300"]
    launcher = ["hydra/launcher=rehearsal", f"hydra.launcher.folder={tmp_path}/rehearsal"]
    typed = [sys.executable, "train.py", "-m", *words, *launcher, f"hydra.sweep.dir={tmp_path}/results"]
    told = subprocess.run(typed, cwd=REPOSITORY, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    (path,) = (tmp_path / "results").rglob(COST_NAME)
    cost = JobCost.read(path)
    assert f"{cost.billable_s:,} s billed of {cost.training_s:,} s used" in told.stdout

    run = measured_run(str(path.parent))
    workload = workload_of(as_plain(compose("cost", *words)), [], run)
    prices = Prices.known("us-east-1")
    (found,) = compared(workload, {cost.instance_type: run.rate}, [1], {}, prices, [0, 0])
    assert found.hours.value * 3600 == pytest.approx(cost.billed_s, rel=0.2)
    assert found.parts_usd["instances"] == pytest.approx(cost.usd, rel=0.2)
