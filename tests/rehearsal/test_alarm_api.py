"""Alarms over invocations, on cases worked out by hand: what breaches, and that a shorter minute changes nothing."""

import pytest

from stocktake.cloud import endpoint_upkeep as upkeep
from stocktake.rehearsal.alarm_api import Alarms
from stocktake.rehearsal.invocation_counts import Invocation, InvocationCounts

VARIANT = "all"


def in_alarm(time_scale: float, invocations: list[Invocation]) -> str | None:
    """Returns which of the endpoint's two alarms is on: more than 5 errors a minute, or a p95 above 5 s."""
    counts = InvocationCounts()
    alarms = Alarms(counts, time_scale)
    for request in upkeep.alarms("demo", max_errors=5, max_latency_s=5):
        alarms.operations()["PutMetricAlarm"](request)
    for invocation in invocations:
        counts.add(invocation)
    return alarms.first_in_alarm(["demo-5xx", "demo-latency"])


def answered(num: int, status: int = 200, latency_s: float = 0.1, **when) -> list[Invocation]:
    return [Invocation("demo", VARIANT, status, latency_s, **when) for _ in range(num)]


@pytest.mark.parametrize(
    ("time_scale", "num_errors", "alarm"),
    [(1, 5, None), (1, 6, "demo-5xx"), (0.5, 2, None), (0.5, 3, "demo-5xx"), (0.25, 1, None), (0.25, 2, "demo-5xx")],
)
def test_a_sum_is_that_of_a_whole_minute(time_scale, num_errors, alarm):
    """3 errors in half a minute are 6 a minute, as are 2 in a quarter 8."""
    assert in_alarm(time_scale, [*answered(100), *answered(num_errors, 500)]) == alarm


@pytest.mark.parametrize("time_scale", [1, 0.25])
@pytest.mark.parametrize(("latency_s", "alarm"), [(4, None), (6, "demo-latency")])
def test_a_percentile_is_of_what_came_however_long_a_minute_is(time_scale, latency_s, alarm):
    assert in_alarm(time_scale, answered(3, latency_s=latency_s)) == alarm


def test_what_is_older_than_the_period_or_of_another_endpoint_is_no_error():
    before = Invocation("demo", VARIANT, 500, 0.1).at - 61
    others = [Invocation("other", VARIANT, 500, 0.1)] * 9
    assert in_alarm(1, [*answered(9, 500, at=before), *others, *answered(9, 422)]) is None
    assert in_alarm(1, answered(6, status=0)) == "demo-5xx", "no answer at all is one"
