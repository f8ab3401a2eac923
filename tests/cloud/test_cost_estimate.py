"""Estimates that can be worked out by hand, and what is said to be assumed."""

from datetime import date

import pytest

from stocktake.cloud.cost_estimate import (
    CostEstimate,
    Workload,
    assumed_efficiency,
    cheapest,
    compared,
    num_batches,
)
from stocktake.cloud.prices import InstancePrice, OtherPrices, Prices
from stocktake.cloud.training_rates import VALIDATED, Range, Rate, rates_of, recorded_rate

OTHER = OtherPrices(0.1, 1e-6, 1e-5, 0.02, 0.1, "by hand")
PRICES = Prices(
    "x",
    {
        "ml.g5.xlarge": InstancePrice("ml.g5.xlarge", 2.0, date(2026, 1, 1), "typed"),
        "ml.m5.xlarge": InstancePrice("ml.m5.xlarge", 0.5, date(2026, 2, 1), "typed"),
    },
    OTHER,
)
# 10,000 steps of 36 images are 3,600 s at 100 a second; 20 validations of 900 are 180 s more; 420 s of start and end.
WORK = Workload("resnet50", 10_000, 36, 20, 900, 1_000_000, 100, Range(420, 420, 420))
RATE = Rate(Range(100, 50, 200), Range(100, 100, 100), True, "measured")


def estimate(num: int = 1, one: str = "ml.g5.xlarge", **measured: float) -> CostEstimate:
    efficiency = {int(key[1:]): share for key, share in measured.items()}
    (found,) = compared(WORK, {one: RATE}, [num], efficiency, PRICES, [0.5, 0.7])
    return found


def test_hours_and_dollars_by_hand():
    found = estimate()
    assert found.hours.value == pytest.approx(4200 / 3600)
    assert (found.hours.low, found.hours.high) == pytest.approx((2400 / 3600, 7800 / 3600))
    requests, kept, fetched = 1_050_000 * 1e-6, 8 * 25.56e6 * 4e-9 * 0.02, 25.56e6 * 4e-9 * 0.1
    beside = requests + kept + fetched  # an ml.g5's disk is its own
    assert found.parts_usd["disk"] == 0 and sum(found.parts_usd.values()) == pytest.approx(found.on_demand_usd.value)
    assert found.on_demand_usd.value == pytest.approx(2 * 4200 / 3600 + beside)
    assert found.spot_usd.value == pytest.approx(2 * 4200 / 3600 * 0.4 + beside)
    assert found.spot_usd.low == pytest.approx(2 * 2400 / 3600 * 0.3 + beside)
    assert found.spot_usd.high == pytest.approx(2 * 7800 / 3600 * 0.5 + beside)


def test_a_disk_of_ebs_costs():
    assert estimate(one="ml.m5.xlarge").parts_usd["disk"] == pytest.approx(100 * 0.1 * 4200 / 3600 / 730)


def test_measured_efficiency_is_taken_and_one_instance_has_all():
    found = estimate(2, _2=0.9)
    assert found.efficiency.is_measured and found.hours.value == pytest.approx((420 + 3600 / 1.8 + 90) / 3600)
    assert estimate().efficiency.is_measured and not estimate(2).efficiency.is_measured


def test_two_small_batches_over_a_slow_network_are_slower_than_one():
    # notes: 102 MB of gradients a step; 16 images take 0.032 s at 500 a second, and 102 MB at 10 Gbit/s 0.082 s
    fast = Rate(Range(500, 500, 500), Range(500, 500, 500), False, "assumed")
    small = Workload("resnet50", 1000, 32, 1, 1, 0, 1)
    found = assumed_efficiency(small, 2, fast)
    moved_s = 2 * 1 / 2 * 25.56e6 * 4 / 1.25e9
    assert found.share.value == pytest.approx(0.032 / (0.032 + moved_s)) and 2 * found.share.value < 1
    assert found.share.low < found.share.value < found.share.high and found.share.low == pytest.approx(
        0.032 / (0.032 + 4 * moved_s)
    )
    large = Workload("resnet50", 1000, 2048, 1, 1, 0, 1)
    assert assumed_efficiency(large, 2, fast).share.value > 0.9


def test_a_rate_of_two_that_trained_together_is_theirs():
    rates, prices = {"ml.g5.xlarge": RATE}, PRICES
    one, two = compared(WORK, rates, [1, 2], {}, prices, [0.5, 0.7], num_at_rate=2)
    assert two.efficiency.is_measured and two.efficiency.share.value == 1
    assert not one.efficiency.is_measured and one.efficiency.share.value > 1, "alone it does not wait for the other"


def test_the_cheapest_that_is_surely_done_in_time():
    estimates = compared(WORK, {"ml.g5.xlarge": RATE, "ml.m5.xlarge": RATE}, [1, 2], {2: 1.0}, PRICES, [0.5, 0.7])
    assert [one.hours.high for one in estimates] == pytest.approx([7800 / 3600, 4110 / 3600] * 2)
    chosen = cheapest(estimates, None, spot=False)
    assert chosen is not None and (chosen.instance_type, chosen.num_instances) == ("ml.m5.xlarge", 1), "two start twice"
    slow = compared(
        WORK, {"ml.g5.xlarge": RATE, "ml.m5.xlarge": RATE.scaled(0.1, "assumed")}, [1, 2], {2: 1.0}, PRICES, [0, 0]
    )
    assert cheapest(slow, 3, spot=True) is not None and cheapest(slow, 3, spot=True).instance_type == "ml.g5.xlarge"
    assert cheapest(slow, 1.0, spot=True) is None


@pytest.mark.parametrize(("limit", "batches"), [(None, 4), (3, 3), (99, 4), (0.5, 2), (1.0, 4)])
def test_batches_are_lightnings(limit, batches):
    assert num_batches(100, 32, limit, is_training=False) == batches
    assert num_batches(140, 32, limit, is_training=True) == batches, "training leaves a batch that is not whole"
    assert num_batches(5, 32, None, is_training=True) == 1


def test_what_is_on_record_is_scaled_to_the_instance_and_said_to_be_assumed():
    found = recorded_rate("ml.g5.xlarge", "resnet50", 224)
    assert found is not None and not found.is_measured and "timm" in found.source
    assert found.images_per_s.value == pytest.approx(0.4 * 1218.01)
    assert found.validated_per_s.value == pytest.approx(VALIDATED * 0.4 * 1218.01)
    half = recorded_rate("ml.g5.12xlarge", "resnet50", 448)
    assert half is not None and half.images_per_s.value == pytest.approx(
        found.images_per_s.value
    )  # four GPUs, a quarter
    assert recorded_rate("ml.m5.xlarge", "resnet50", 224).images_per_s.value == 4.5
    assert recorded_rate("ml.c6i.4xlarge", "resnet50", 224).images_per_s.value == 18
    assert recorded_rate("ml.m5.large", "resnet50", 224).images_per_s.value == 2.25
    for instance_type, backbone in (
        ("ml.p5.48xlarge", "resnet50"),
        ("ml.g5.xlarge", "vit"),
        ("ml.trn1.2xlarge", "resnet50"),
    ):
        assert recorded_rate(instance_type, backbone, 224) is None


def test_a_measured_rate_is_the_first_types_and_scales_the_others():
    types = ["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.p5.48xlarge"]
    rates, unknown = rates_of(types, "resnet50", 224, RATE)
    assert rates["ml.g4dn.xlarge"] is RATE and unknown == ["ml.p5.48xlarge"]
    assert rates["ml.g5.xlarge"].images_per_s.value == pytest.approx(200) and not rates["ml.g5.xlarge"].is_measured
    rates, unknown = rates_of(["ml.p5.48xlarge", "ml.g5.xlarge"], "resnet50", 224, RATE)
    assert list(rates) == ["ml.p5.48xlarge"] and unknown == ["ml.g5.xlarge"]
