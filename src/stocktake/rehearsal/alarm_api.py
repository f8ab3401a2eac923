"""CloudWatch's alarms, evaluated over the rehearsal's own invocations when somebody asks.

CloudWatch looks at whole minutes of the clock, and some later than they end; here a period ends now.
"""

import operator
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy

from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.invocation_counts import InvocationCounts
from stocktake.rehearsal.job_state import ACCOUNT, REGION, RequestRefused

NAMESPACE = "AWS/SageMaker"
STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Average": lambda values: sum(values) / len(values),
    "Minimum": min,
    "Maximum": max,
    "SampleCount": lambda values: float(len(values)),
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


class Alarms:
    """The alarms of the rehearsed account; any thread may call its methods.

    Args:
        time_scale: By which their periods are multiplied.
    """

    def __init__(self, counts: InvocationCounts, time_scale: float):
        self.counts, self.time_scale = counts, time_scale
        self._alarms: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {"PutMetricAlarm": self._put, "DescribeAlarms": self._describe, "DeleteAlarms": self._delete}

    def first_in_alarm(self, names: Sequence[str]) -> str | None:
        with self._lock:
            alarms = [self._alarms[name] for name in names if name in self._alarms]
        return next((alarm["AlarmName"] for alarm in alarms if self._state(alarm) == "ALARM"), None)

    def carries_out(self, metric: str, dimensions: Mapping[str, str], actions: Sequence[str]) -> bool:
        """Whether an alarm on a metric has one of some actions."""
        with self._lock:
            alarms = list(self._alarms.values())
        return any(
            alarm["MetricName"] == metric
            and {each["Name"]: each["Value"] for each in alarm.get("Dimensions", ())} == dimensions
            and set(alarm.get("AlarmActions", ())) & set(actions)
            for alarm in alarms
        )

    def refuse_unknown(self, names: Sequence[str]) -> None:
        """Refuses a deployment that relies on an alarm which is not there; AWS's own words are not known.

        Raises:
            RequestRefused: One is not.
        """
        with self._lock:
            unknown = [name for name in names if name not in self._alarms]
        if unknown:
            raise RequestRefused("ValidationException", f"There is no alarm {unknown[0]} in CloudWatch.")

    def _state(self, alarm: Mapping[str, Any]) -> str:
        """Returns OK, ALARM or INSUFFICIENT_DATA."""
        num_periods, now = alarm["EvaluationPeriods"], time.monotonic()
        period_s = alarm["Period"] * self.time_scale
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm.get("Dimensions", ())}
        num_missing = num_breaching = 0
        for number in range(num_periods):
            until = now - number * period_s
            values = self.counts.values(alarm["MetricName"], dimensions, until - period_s, until)
            if not values or alarm.get("Namespace") != NAMESPACE:
                num_missing += 1
            elif COMPARISONS[alarm["ComparisonOperator"]](_statistic(alarm, values), alarm["Threshold"]):
                num_breaching += 1
        treatment = alarm.get("TreatMissingData", "missing")
        if treatment == "breaching":
            num_breaching += num_missing
        if num_breaching >= alarm.get("DatapointsToAlarm", num_periods):
            return "ALARM"
        return "INSUFFICIENT_DATA" if num_missing == num_periods and treatment == "missing" else "OK"

    def _put(self, request: Mapping) -> dict:
        if request["ComparisonOperator"] not in COMPARISONS or "Metrics" in request or "Period" not in request:
            text = "A rehearsal plays alarms of one metric with a fixed threshold, and neither formulas nor bands."
            raise RequestRefused("ValidationError", text)
        with self._lock:
            self._alarms[request["AlarmName"]] = request
        return {}

    def _describe(self, request: Mapping) -> dict:
        names, prefix = request.get("AlarmNames"), request.get("AlarmNamePrefix", "")
        with self._lock:
            alarms = sorted(self._alarms.items())
        found = [
            self._described(alarm)
            for name, alarm in alarms
            if (names is None or name in names) and name.startswith(prefix)
        ]
        state = request.get("StateValue")
        return {
            "MetricAlarms": [alarm for alarm in found if state in (None, alarm["StateValue"])],
            "CompositeAlarms": [],
        }

    def _described(self, alarm: Mapping[str, Any]) -> dict[str, Any]:
        name, state = alarm["AlarmName"], self._state(alarm)
        return {
            **{key: value for key, value in alarm.items() if key != "Tags"},
            "AlarmArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}",
            "StateValue": state,
            "StateReason": f"Of the last {alarm['EvaluationPeriods']} period(s)",
            "StateUpdatedTimestamp": datetime.now(UTC),
        }

    def _delete(self, request: Mapping) -> dict:
        with self._lock:
            for name in request["AlarmNames"]:
                if name not in self._alarms:  # then none is deleted
                    raise RequestRefused("ResourceNotFound", f"Alarm {name} does not exist.", 404)
            for name in request["AlarmNames"]:
                self._alarms.pop(name, None)
        return {}


def _statistic(alarm: Mapping[str, Any], values: list[float]) -> float:
    if "Statistic" in alarm:
        return STATISTICS[alarm["Statistic"]](values)
    return float(numpy.percentile(values, float(alarm["ExtendedStatistic"].removeprefix("p"))))
