"""How an update goes over to the new fleet: at once, after a canary, or step by step; an alarm in a wait rolls back.

Developer guide of SageMaker, "Blue/Green Deployments". MaximumExecutionTimeoutInSeconds is not played: the request's
own rules (`cloud.endpoint_rules`) keep the waits below it, and starting has a limit of its own.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOOK_INTERVAL_S = 0.05


class RolledBack(Exception):
    """An update that did not come to its end; says why."""


@dataclass(frozen=True)
class Deployment:
    """A DeploymentConfig, read.

    Attributes:
        shares: Of the requests that the new fleet takes, one after the other.
        wait_s: After each share.
        alarms: Names of the alarms that roll back.
    """

    shares: tuple[float, ...]
    wait_s: float
    termination_wait_s: float
    alarms: tuple[str, ...]


def deployment(config: Mapping[str, Any], num_instances: int) -> Deployment:
    """Reads a DeploymentConfig; AWS's own where there is none: all at once, no wait, no alarm.

    Args:
        num_instances: Of the new fleet, for steps that are given in instances.
    """
    policy = config.get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0})
    return Deployment(
        _shares(routing, num_instances),
        routing["WaitIntervalInSeconds"],
        policy.get("TerminationWaitInSeconds", 0),
        alarm_names(config),
    )


def alarm_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the alarms of a DeploymentConfig."""
    alarms = config.get("AutoRollbackConfiguration", {}).get("Alarms", ())
    return tuple(alarm["AlarmName"] for alarm in alarms)


def _shares(routing: Mapping[str, Any], num_instances: int) -> tuple[float, ...]:
    step = routing.get("CanarySize") or routing.get("LinearStepSize")
    if not step:
        return (1.0,)
    share = step["Value"] / (100 if step["Type"] == "CAPACITY_PERCENT" else num_instances)
    if routing["Type"] == "CANARY":
        return (min(share, 1.0), 1.0)
    num_steps = -int(-1 / share // 1)
    return tuple(min(share * number, 1.0) for number in range(1, num_steps + 1))


def shift_traffic(
    plan: Deployment, shift: Callable[[float], None], alarmed: Callable[[Sequence[str]], str | None], time_scale: float
) -> None:
    """Shifts the traffic to the new fleet, share by share.

    Args:
        shift: Sends a share of the requests to the new fleet.
        alarmed: Returns which of some alarms is in ALARM.
        time_scale: By which all waits are multiplied.

    Raises:
        RolledBack: An alarm went off.
    """
    for share in plan.shares:
        shift(share)
        deadline = time.monotonic() + plan.wait_s * time_scale
        while True:
            if alarm := alarmed(plan.alarms):
                raise RolledBack(
                    f"One or more of the CloudWatch alarms in the auto-rollback configuration went off: {alarm}."
                )
            if time.monotonic() >= deadline:
                break
            time.sleep(LOOK_INTERVAL_S)
