"""What jobs did cost, by hand; the public run of this very task among them."""

import json
from datetime import date

import pytest

from stocktake.cloud.costs import COST_NAME, CostTotal, JobCost, billed_s
from stocktake.cloud.prices import InstancePrice, OtherPrices, Prices


def prices(usd: float = 1.5, spot: float | None = None) -> Prices:
    price = InstancePrice("ml.g5.xlarge", usd, date(2026, 11, 1), "as typed", spot)
    return Prices("us-east-1", {"ml.g5.xlarge": price}, OtherPrices.of_table())


def described(training_s: int = 3738, billable_s: int = 1422, num_instances: int = 1, **further) -> dict:
    return {
        "TrainingJobName": "job",
        "TrainingJobStatus": "Completed",
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": num_instances},
        "EnableManagedSpotTraining": True,
        "TrainingTimeInSeconds": training_s,
        "BillableTimeInSeconds": billable_s,
        **further,
    }


def test_the_public_run_saved_62_percent():
    cost = JobCost.of(described(), "resnet50_spot", prices())
    assert f"{100 * cost.saved_share:.1f}" == "62.0"
    assert cost.usd == pytest.approx(0.5925)  # 1,422 s of 3,600 at 1.50 USD
    assert cost.on_demand_usd == pytest.approx(1.5575)  # 3,738 s


def test_awss_own_example_is_80_percent():
    # DescribeTrainingJob: "if BillableTimeInSeconds is 100 and TrainingTimeInSeconds is 500, the savings is 80%"
    assert JobCost.of(described(500, 100), "x", prices()).saved_share == pytest.approx(0.8)


def test_two_instances_cost_twice_and_warm_ones_cost_too():
    kept = {"WarmPoolStatus": {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 600}}
    cost = JobCost.of(described(3600, 3600, 2, EnableManagedSpotTraining=False, **kept), "x", prices())
    assert cost.billed_s == 8400
    assert cost.usd == cost.on_demand_usd == pytest.approx(3.5)  # 2 x (1 h + 10 min) x 1.50
    assert cost.saved_share == 0


def test_the_hours_of_spot_may_have_a_price_of_their_own():
    # A bill of July 2026, us-east-2: 1.2575 USD on demand, 1.4084 in the meter of spot.
    cost = JobCost.of(described(7200, 3600), "x", prices(1.2575, 1.4084))
    assert cost.usd == pytest.approx(1.4084) and cost.on_demand_usd == pytest.approx(2.515)
    assert JobCost.of(
        described(7200, 3600, EnableManagedSpotTraining=False), "x", prices(1.2575, 1.4084)
    ).usd == pytest.approx(1.2575)


def test_of_several_types_the_one_that_aws_took_counts():
    preferred = [{"InstanceType": f"ml.{one}.xlarge", "InstanceCount": num} for one, num in (("g6", 4), ("g5", 2))]
    resources = {"InstancePreferences": preferred}
    waiting = described(ResourceConfig=resources)
    assert billed_s(waiting) == 4 * 1422
    taken = {**resources, "SelectedInstanceType": "ml.g5.xlarge", "SelectedInstanceCount": 2}
    cost = JobCost.of(described(ResourceConfig=taken), "x", prices())
    assert (cost.instance_type, cost.num_instances, cost.billed_s) == ("ml.g5.xlarge", 2, 2 * 1422)


def test_a_job_that_never_had_instances_costs_nothing():
    never = described()
    del never["TrainingTimeInSeconds"], never["BillableTimeInSeconds"]
    cost = JobCost.of(never, "x", prices())
    assert (cost.billed_s, cost.usd, cost.saved_share) == (0, 0, None)


def test_without_a_price_seconds_are_known_and_dollars_are_not():
    cost = JobCost.of(described(ResourceConfig={"InstanceType": "ml.p9.xlarge", "InstanceCount": 1}), "x", prices())
    assert (cost.billed_s, cost.usd, cost.on_demand_usd) == (1422, None, None)
    total = CostTotal.of("both", [cost, JobCost.of(described(), "x", prices())])
    assert (total.num_jobs, total.num_unpriced, total.billed_s) == (2, 1, 2844)
    assert total.usd == pytest.approx(0.5925) and f"{100 * total.saved_share:.1f}" == "62.0"
    assert CostTotal.of("none", [cost]).usd is None


def test_a_record_comes_back_as_it_was(tmp_path):
    cost = JobCost.of(described(num_instances=2), "resnet50_spot", prices(1.2575, 1.4084))
    cost.write(tmp_path)
    assert JobCost.read(tmp_path / COST_NAME) == cost
    assert json.loads((tmp_path / COST_NAME).read_text())["usd"] == pytest.approx(2 * 1422 * 1.4084 / 3600)


@pytest.mark.parametrize("damage", ['"num_instances": "2"', '"billable_s": null', '"price_day": "soon"', "]"])
def test_a_damaged_record_is_named(tmp_path, damage):
    JobCost.of(described(), "x", prices()).write(tmp_path)
    path = tmp_path / COST_NAME
    text = path.read_text()
    key = damage.partition(":")[0]
    lines = [line if key not in line else f"  {damage}," for line in text.splitlines()]
    path.write_text("\n".join(lines) if ":" in damage else damage)
    with pytest.raises(ValueError, match=r"is no cost\.json of a job, or damaged"):
        JobCost.read(path)
