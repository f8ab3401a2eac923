"""scripts/cost.py: an answer without an account, what it says of its sources, and what jobs did cost."""

import csv
import json
from datetime import date

import pytest
import yaml

from stocktake.cloud.costs import COST_NAME, JobCost
from stocktake.cloud.prices import Prices
from stocktake.config import as_plain
from stocktake.training.cost_workload import measured_run, workload_of
from stocktake.workflows.cost import cost
from stocktake.workflows.finished_costs import finished_costs


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # where no dataset lies
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_it_answers_without_an_account(compose, capsys):
    summary = cost(compose("cost", "experiment=resnet50_spot"))
    told = capsys.readouterr().out
    assert json.loads(told.splitlines()[-1]) == summary
    assert summary.keys() >= {"on_demand_usd", "spot_usd", "hours", "prices_date"}
    assert (summary["instance_type"], summary["num_instances"]) == ("ml.g5.xlarge", 2)
    assert 0 < summary["spot_usd"] < summary["on_demand_usd"]
    low, high = summary["on_demand_usd_range"]
    assert low < summary["on_demand_usd"] < high
    assert date.fromisoformat(summary["prices_date"]) and not summary["is_measured"]
    for said in ("days old", "stands in for us-east-1", "Assumed: 6,995 images", "timm", "which AWS promises nobody"):
        assert said in told, said
    assert "2 × ml.g5.xlarge are probably slower than one" in told


def test_what_is_typed_is_measured_and_comes_first(compose, capsys):
    words = ("images_per_s=200", "num_train_images=6400", "num_valid_images=640", "start_s=0", "trainer.max_epochs=10")
    chosen = ("compute=on_demand", "instance_types=[ml.g5.xlarge]", "nums_instances=[1]", "prices={ml.g5.xlarge: 3.6}")
    summary = cost(compose("cost", "experiment=resnet50", *words, *chosen))
    # 64,000 images at 200 a second, and 6,400 at three times that
    assert summary["hours"] == pytest.approx((320 + 6400 / 600) / 3600, abs=5e-4) and summary["is_measured"]
    requests, kept, fetched = 70_400 * 1.05 * 4e-7, 8 * 25.56e6 * 4e-9 * 0.023, 25.56e6 * 4e-9 * 0.09
    assert summary["on_demand_usd"] == pytest.approx((320 + 6400 / 600) / 1000 + requests + kept + fetched, abs=1e-3)
    assert summary["prices_date"] == str(date.today())
    assert "measured, as typed" in capsys.readouterr().out


@pytest.mark.parametrize(("deadline_h", "num"), [(50, 1), (1.0, 4)])
def test_the_cheapest_that_meets_a_deadline(compose, capsys, deadline_h, num):
    words = (
        "images_per_s=50",
        "efficiency={2: 0.9, 4: 0.8}",
        "instance_types=[ml.g5.xlarge]",
        f"deadline_h={deadline_h}",
    )
    summary = cost(compose("cost", "experiment=resnet50_spot", *words))
    assert summary["cheapest"]["num_instances"] == num
    assert f"within {deadline_h:g} hours" in capsys.readouterr().out


def test_where_none_meets_it_that_is_said(compose, capsys):
    summary = cost(compose("cost", "experiment=resnet50_spot", "deadline_h=0.01"))
    assert (
        summary["cheapest"] is None and "None of them is surely done within deadline_h=0.01" in capsys.readouterr().out
    )


def test_a_network_that_is_on_no_record_is_told_with_what_to_type(compose):
    with pytest.raises(
        ValueError, match=r"model\.backbone=vit_tiny_patch16_224 is on record nowhere\. Type images_per_s="
    ):
        cost(compose("cost", "experiment=resnet50", "model.backbone=vit_tiny_patch16_224"))


def test_a_type_without_a_price_is_told_with_what_to_type(compose):
    words = ("compute.instance_types=[ml.p5.4xlarge]", "images_per_s=900")
    with pytest.raises(ValueError, match=r"type 'prices=\{ml\.p5\.4xlarge: <USD an hour>\}'"):
        cost(compose("cost", "experiment=resnet50", *words))


def workload(compose, *words):
    return workload_of(as_plain(compose("cost", *words)), [])


@pytest.mark.parametrize(
    ("words", "steps", "validations", "read"),
    [
        ((), 10 * 31, 10, 10 * 31 * 32 + 10 * 100),
        (("trainer.max_epochs=null", "+trainer.max_steps=40"), 40, 2, 40 * 32 + 2 * 100),
        (("+trainer.max_steps=40",), 40, 10, 40 * 32 + 10 * 100),
        (("+trainer.limit_train_batches=5", "+trainer.limit_val_batches=2"), 50, 10, 50 * 32 + 10 * 64),
        (("data.limit=64",), 20, 10, 20 * 32 + 10 * 64),
        (("data.cache_dir=cache",), 310, 10, 1_000 + 100),
        (("data=synthetic", "data.root=nowhere/synthetic-2000"), 310, 10, 0),
    ],
)
def test_the_work_is_lightnings(compose, words, steps, validations, read):
    own = ("experiment=resnet50", "trainer.max_epochs=10", "num_train_images=1000", "num_valid_images=100")
    found = workload(compose, *own, *words)
    assert (found.num_steps, found.num_validations, found.num_images_read) == (steps, validations, read)


def test_a_training_without_an_end_is_refused(compose):
    with pytest.raises(ValueError, match="Type one of them"):
        workload(compose, "experiment=resnet50", "trainer.max_epochs=-1")


def make_run(folder, num_nodes: int = 1, devices="auto") -> None:
    """A run of two parts: 640 images in 8 s and 320 in 2 s, 96 a second in the mean; 100 validated in 0.5 s."""
    for version, rows in enumerate(([(320, 5), (640, 8)], [(320, 2)])):
        (folder / f"csv/version_{version}").mkdir(parents=True)
        with (folder / f"csv/version_{version}/metrics.csv").open("w", newline="") as lines:
            names = [
                "step",
                "train/samples",
                "train/time",
                "train/device/samples_per_sec",
                "validate/samples",
                "validate/time",
            ]
            writer = csv.DictWriter(lines, names)
            writer.writeheader()
            for step, (samples, time_s) in enumerate(rows):
                writer.writerow({"step": step, "train/samples": samples, "train/time": time_s})
                writer.writerow({"step": step, "train/device/samples_per_sec": 60 + 20 * step + 60 * version})
            writer.writerow({"step": 1, "validate/samples": 50, "validate/time": 0.25})
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {"num_nodes": num_nodes, "devices": devices}}))


def test_a_runs_own_log_says_how_fast_it_was(compose, capsys, tmp_path):
    make_run(tmp_path / "run")
    found = measured_run(str(tmp_path / "run"))
    assert found.rate.images_per_s.value == pytest.approx(96) and found.rate.is_measured and found.start is None
    assert found.rate.images_per_s.low <= 60 and found.rate.images_per_s.high >= 120
    assert found.rate.validated_per_s.value == pytest.approx(200)
    words = (
        "instance_types=[ml.g5.xlarge]",
        "num_train_images=960",
        "num_valid_images=200",
        "start_s=0",
        "nums_instances=[1]",
    )
    summary = cost(compose("cost", "experiment=resnet50", "trainer.max_epochs=1", *words, f"run={tmp_path}/run"))
    assert summary["hours"] == pytest.approx((10 + 1) / 3600, abs=1e-3)
    assert f"measured in {tmp_path}/run" in capsys.readouterr().out


def test_ranks_count_and_a_jobs_bill_says_how_long_it_began(tmp_path):
    make_run(tmp_path / "run", num_nodes=2, devices=4)
    described = {"TrainingJobName": "j", "TrainingJobStatus": "Completed"}
    described |= {"ResourceConfig": {"InstanceType": "ml.g5.12xlarge", "InstanceCount": 2}}
    described |= {"TrainingTimeInSeconds": 100, "BillableTimeInSeconds": 40}
    JobCost.of(described, "x", Prices.known("eu-west-1")).write(tmp_path / "run")
    found = measured_run(str(tmp_path / "run"))
    assert (found.num_instances, found.rate.images_per_s.value) == (2, pytest.approx(4 * 96))
    assert found.start is not None and found.start.value == pytest.approx(100 - 10 - 0.5)


def test_a_run_without_such_a_log_is_told(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=r"has no log of how fast it was .* or type images_per_s="):
        measured_run(str(tmp_path / "run"))


def finish(folder, name: str, experiment: str, training_s: int, billable_s: int, one: str = "ml.g5.xlarge") -> None:
    described = {"TrainingJobName": name, "TrainingJobStatus": "Completed", "EnableManagedSpotTraining": True}
    described |= {"ResourceConfig": {"InstanceType": one, "InstanceCount": 1}}
    described |= {"TrainingTimeInSeconds": training_s, "BillableTimeInSeconds": billable_s}
    JobCost.of(described, experiment, Prices.known("eu-west-1")).write(folder / name)


def test_finished_jobs_sweeps_and_experiments(compose, capsys, tmp_path):
    finish(tmp_path / "a/0", "public", "resnet50_spot", 3738, 1422)
    for number in (0, 1):
        finish(tmp_path / f"b/{number}", f"sweep-{number}", "demo", 1000, 500)
    summary = finished_costs(compose("cost", f"runs=[{tmp_path}]"))
    assert last_line(capsys) == summary
    assert (summary["num_jobs"], summary["billed_s"], summary["training_s"]) == (3, 2422, 5738)
    assert summary["usd"] == pytest.approx(1.57 * 2422 / 3600, abs=1e-3) and summary["num_unpriced"] == 0
    figures = json.loads((tmp_path / "costs.json").read_text())
    assert [one["name"] for one in figures["Experiments"]] == ["resnet50_spot", "demo"]
    assert [one["num_jobs"] for one in figures["Sweeps"]] == [2] and figures["Sweeps"][0]["name"].endswith("b")
    assert f"{100 * figures['jobs'][0]['saved_share']:.1f}" == "62.0"
    assert "62.0" in (tmp_path / "costs.html").read_text()
    assert finished_costs(compose("cost", f"runs=[{tmp_path}/a/0]"))["num_jobs"] == 1


def test_a_typed_price_counts_for_finished_jobs_too(compose, tmp_path):
    finish(tmp_path / "a/0", "one", "demo", 3600, 3600)
    finish(tmp_path / "b/0", "two", "demo", 3600, 3600, one="ml.p5.4xlarge")
    before = finished_costs(compose("cost", f"runs=[{tmp_path}]"))
    assert (before["usd"], before["num_unpriced"]) == (1.57, 1)
    typed = "prices={ml.g5.xlarge: 1.0, ml.p5.4xlarge: 6.0}"
    after = finished_costs(compose("cost", f"runs=[{tmp_path}]", typed))
    assert (after["usd"], after["num_unpriced"]) == (7.0, 0)


def test_where_no_job_left_a_record_it_is_told(compose, tmp_path):
    with pytest.raises(ValueError, match=rf"there is no {COST_NAME} in {tmp_path} or below it"):
        finished_costs(compose("cost", f"runs=[{tmp_path}]"))
