"""A number with its interval: how it is printed, what JSON makes of it, and what is no such number."""

import json
import math

import pytest

from stocktake.metrics.estimate import Difference, Estimate


def test_a_share_is_printed_in_percent_and_items_as_they_are():
    share, items = Estimate(0.3867, 0.3665, 0.4112), Estimate(1.234, 1.1, 1.369, is_share=False)
    assert (str(share), share.interval) == ("38.7\u202f%", "36.6–41.1")
    assert (str(items), items.interval) == ("1.23", "1.10–1.37")
    assert (str(Estimate(None)), Estimate(0.5).interval) == ("n/a", "")


def test_a_difference_has_a_sign_and_is_clear_without_zero():
    share = Difference(0.0312, -0.004, 0.07)
    assert (str(share), share.interval, share.is_clear) == ("+3.1 points", "−0.4 to +7.0", False)
    items = Difference(-0.1234, -0.2, -0.00001, is_share=False)
    assert (str(items), items.interval, items.is_clear) == ("−0.123", "−0.200 to +0.000", True)
    assert (str(Difference(None, None, None)), Difference(None, None, None).is_clear) == ("n/a", False)


def test_json_gives_back_what_it_was_given():
    for estimate in (Estimate(0.5, 0.4, 0.6), Estimate(1.5, None, None, is_share=False), Estimate(None)):
        assert Estimate.from_json(json.loads(json.dumps(estimate.to_json())), estimate.is_share) == estimate


def test_what_could_not_be_computed_is_null():
    assert Estimate.of(0.5, math.nan, math.nan) == Estimate(0.5) == Estimate.from_json({"value": 0.5})
    assert Estimate.from_json({"value": math.nan, "low": None, "high": math.nan}).to_json() == {
        "value": None,
        "low": None,
        "high": None,
    }


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (None, "value, low and high are needed"),
        (0.5, "='0.5', but value, low and high"),
        ({"low": 0, "high": 1}, "value, low and high"),
        ({"value": "<b>"}, "holds '<b>', but a number"),
        ({"value": True}, "holds True"),
        ({"value": 0.5, "low": math.inf}, "holds inf"),
    ],
)
def test_what_is_no_estimate_is_refused(plain, message):
    with pytest.raises(ValueError, match=message):
        Estimate.from_json(plain)


@pytest.mark.parametrize(
    ("low", "high", "is_below"),
    [
        (Estimate(1, 0, 2), Estimate(4, 3, 5), True),
        (Estimate(1, 0, 3), Estimate(4, 3, 5), False),
        (Estimate(1), Estimate(4, 3, 5), False),
    ],
)
def test_clearly_below_is_where_intervals_do_not_touch(low, high, is_below):
    assert low.is_clearly_below(high) is is_below
    assert not high.is_clearly_below(low)
