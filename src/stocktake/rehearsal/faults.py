"""What shall go wrong in a rehearsal, and when."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

KINDS = {
    "notice": "a spot interruption: SIGTERM, the grace time, SIGKILL",
    "kill": "a spot interruption without notice: SIGKILL, and what was not yet uploaded is lost",
    "half_upload": "as kill, and the newest checkpoint lies half written in S3",
    "capacity": "no instances for wait_s before the next attempt",
    "no_capacity": "no instances at all: an on-demand job fails, a spot job waits for its maximum",
    "pending": "as capacity, in AWS's newer word for it: secondary status Pending",
    "max_runtime": "the maximum runtime is reached",
    "internal_error": "the instances break, and the job fails: InternalServerError",
    "throttle": "the next looks at jobs and logs are refused: ThrottlingException",
    "blip": "the next looks get no answer: the connection is reset",
    "refused_submit": "a CreateTrainingJob is refused: ResourceLimitExceeded",
}
HOST = re.compile(r"algo-[1-9][0-9]*")
# What each value must be, and the least that it may be.
LEAST = (
    ("step", int, 0),
    ("after_s", (int, float), 0),
    ("wait_s", (int, float), 0),
    ("calls", int, 1),
    ("number", int, 1),
    ("trial", int, 0),
)
INTERRUPTIONS = ("notice", "kill", "half_upload")
CAPACITY = ("capacity", "pending", "no_capacity")
ENDINGS = ("max_runtime", "internal_error")
OF_THE_API = ("throttle", "blip", "refused_submit")  # they meet who asks, not a job


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    With neither `step` nor `after_s` it happens once the attempt has uploaded a first checkpoint; what meets who asks
    happens a second after the first job was sent.

    Attributes:
        kind: One of `KINDS`.
        host: The one host that it meets, such as `algo-2`; `None` for all.
        step: It happens when the log tells this step (metric definition `step`).
        after_s: It happens this long after the training began, or after the first job was sent.
        wait_s: How long `capacity` and `pending` last.
        calls: How many looks `throttle` and `blip` meet, one after the other.
        number: Which CreateTrainingJob of the rehearsal `refused_submit` meets, from 1.
        trial: The one trial of a tuning job that it meets, by its number from 0 on; `None` for all jobs.
    """

    kind: str
    host: str | None = None
    step: int | None = None
    after_s: float | None = None
    wait_s: float = 5.0
    calls: int = 12
    number: int = 2
    trial: int | None = None

    def __str__(self) -> str:
        details = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)[1:]
            if getattr(self, field.name) != field.default
        ]
        return f"{self.kind} ({', '.join(details)})" if details else self.kind


def fault_plan(entries: Sequence[str | Mapping[str, Any] | Fault]) -> list[Fault]:
    """Returns the plan that `[notice, {kind: kill, host: algo-2, step: 11}]` means, in the order of its entries.

    Raises:
        ValueError: An entry is of no known kind, or has an unknown key or an impossible value.
    """
    plan = [
        entry if isinstance(entry, Fault) else _fault({"kind": entry} if isinstance(entry, str) else entry)
        for entry in entries
    ]
    for fault in plan:
        _check(fault)
    return plan


def _fault(entry: Mapping[str, Any]) -> Fault:
    allowed = [field.name for field in fields(Fault)]
    unknown = sorted(set(entry) - set(allowed))
    if unknown or "kind" not in entry:
        raise ValueError(f"faults: {dict(entry)} needs a kind and may have {', '.join(allowed[1:])}.")
    return Fault(**entry)


def _check(fault: Fault) -> None:
    if fault.kind not in KINDS:
        close = get_close_matches(str(fault.kind), KINDS)
        meant = f" Did you mean {close[0]}?" if close else ""
        known = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
        raise ValueError(f"faults: {fault.kind!r} is unknown.{meant} Known are {known}.")
    if fault.host is not None and not HOST.fullmatch(str(fault.host)):
        raise ValueError(f"faults: host={fault.host!r} of {fault.kind} names no host: type such as algo-2.")
    for name, types, least in LEAST:
        value = getattr(fault, name)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool) or not value >= least):
            a_number = "a whole number" if types is int else "a number of seconds"
            raise ValueError(f"faults: {name}={value!r} of {fault.kind} must be {a_number}, at least {least}.")
