"""What a launch can cost, from the words that are typed to a refusal; and what its jobs did cost."""

import json

import pytest

from hydra_plugins.stocktake_sagemaker._launch_costs import (
    cost_problems,
    launch_bound,
    launch_prices,
    plan_text,
    record_costs,
    traffic,
)
from hydra_plugins.stocktake_sagemaker.options import LauncherOptions
from hydra_plugins.stocktake_sagemaker.plan import Plan, resolved_compute, training_requests
from stocktake.cloud.costs import COST_NAME
from stocktake.cloud.monitor import FollowedJob

PRICES = {"ml.g5.xlarge": 1.5, "ml.g4dn.xlarge": 0.8}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # where no dataset lies


def plan(compose, folder, *words: str, number: int = 0) -> Plan:
    cfg = compose("train", "experiment=resnet50_spot", "data.root=s3://bins/abid", "compute.bucket=bins", *words)
    compute = resolved_compute(cfg)
    requests = training_requests(compute, f"job-{number}", number, "s3://b/c", "s3://b/d", "us-east-1", {}, {})
    return Plan(number, f"job-{number}", words, (), cfg, folder / str(number) / f"job-{number}", "s3://b/d", requests)


def options(**values) -> LauncherOptions:
    return LauncherOptions(**{"prices": PRICES, **values})


def told(plans, earlier_usd: float = 0.0, **values) -> list[str]:
    chosen = options(**values)
    return [one.text for one in cost_problems(plans, chosen, launch_prices(chosen, "us-east-1"), earlier_usd)]


def test_without_a_limit_nothing_is_refused(compose, tmp_path):
    assert told([plan(compose, tmp_path)]) == []


def test_what_is_read_over_all_epochs_is_in_the_bound(compose, tmp_path):
    streamed = traffic(plan(compose, tmp_path).cfg)
    assert streamed.num_gets == round(1.05 * (50 * 218 * 32 + 50 * 1456))  # 6,995 images are 218 whole batches
    assert streamed.num_puts == 4 * (50 * 218 // 100 + 2 * 50 + 2)
    assert traffic(plan(compose, tmp_path, "data.cache_dir=cache").cfg).num_gets == round(1.05 * 8451)
    assert traffic(plan(compose, tmp_path, "data=synthetic", "data.root=nowhere/synthetic-1").cfg).num_gets == 0


def test_a_launch_above_the_limit_is_refused_and_one_within_is_not(compose, tmp_path):
    plans = [plan(compose, tmp_path, number=number) for number in range(3)]
    (line,) = told(plans, max_usd=20)
    assert (
        line.startswith("hydra.launcher.max_usd=20, and this launch can cost ") and "3 jobs of up to 172800 s" in line
    )
    words = [word.rstrip(",") for word in line.split() if word.startswith("compute.")]
    assert told([plan(compose, tmp_path, *words, number=number) for number in range(3)], max_usd=20) == []


def test_what_earlier_batches_of_a_sweep_can_cost_counts(compose, tmp_path):
    one = plan(compose, tmp_path, "compute.max_runtime_s=3600", "compute.max_wait_s=3600")
    most_usd = launch_bound([one], launch_prices(options(), "us-east-1")).usd
    assert told([one], max_usd=2 * most_usd) == []
    assert told([one], earlier_usd=0.9 * most_usd, max_usd=2 * most_usd) == []
    (line,) = told([one], earlier_usd=1.1 * most_usd, max_usd=2 * most_usd)
    assert f"beside the {1.1 * most_usd:.2f} of what was sent before" in line


def test_a_price_that_is_not_known_is_told_with_what_to_type(compose, tmp_path):
    (line,) = told([plan(compose, tmp_path, "compute.instance_types=[ml.p5.4xlarge]")], max_usd=20)
    assert line.endswith("type 'hydra.launcher.prices={ml.p5.4xlarge: <USD an hour>}'")


def test_the_plan_names_each_job_and_the_most_that_it_can_cost(compose, tmp_path):
    plans = [plan(compose, tmp_path, "compute.instance_types=[ml.g5.xlarge,ml.g4dn.xlarge]")]
    prices = launch_prices(options(), "us-east-1")
    first, last = plan_text(plans, prices).splitlines()
    assert first == "  job-0: 2 × ml.g5.xlarge, spot, or 1 other type(s), at most 86400 s"
    assert f"{launch_bound(plans, prices).usd:.2f} USD at most" in last
    assert len(plans[0].requests) == 2, "a later try is a job of its own"


def test_what_a_job_cost_lies_with_its_results(compose, tmp_path, capsys):
    plans = [plan(compose, tmp_path), plan(compose, tmp_path, number=1)]
    ended, running = FollowedJob("job-0"), FollowedJob("job-1")
    ended.see(
        {
            "TrainingJobName": "job-0",
            "TrainingJobStatus": "Completed",
            "SecondaryStatus": "Completed",
            "EnableManagedSpotTraining": True,
            "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2},
            "TrainingTimeInSeconds": 3738,
            "BillableTimeInSeconds": 1422,
        }
    )
    record_costs(plans, [ended, running], launch_prices(options(), "us-east-1"))
    (path,) = tmp_path.rglob(COST_NAME)
    assert path.parent == plans[0].folder
    assert json.loads(path.read_text())["usd"] == pytest.approx(2 * 1422 * 1.5 / 3600)
    line = "job-0: 1,422 s billed of 3,738 s used, 2 times, 62.0 % saved: 1.19 USD at 1.5 an hour"
    assert capsys.readouterr().out.startswith(line)
