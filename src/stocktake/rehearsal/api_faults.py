"""What goes wrong between SageMaker's API and who asks it: throttling, a reset connection, a quota used up."""

import threading
import time
from collections.abc import Sequence

from stocktake.rehearsal.faults import OF_THE_API, Fault
from stocktake.rehearsal.job_state import RequestRefused

BEGINS_AFTER_S = 1.0
LOOKS = (
    *("DescribeTrainingJob", "DescribeLogStreams", "GetLogEvents"),
    *("DescribeHyperParameterTuningJob", "ListTrainingJobsForHyperParameterTuningJob"),
)


class Blip(Exception):
    """The caller shall see a connection that is reset."""


class ApiFaults:
    """Plays `throttle`, `blip` and `refused_submit` of a plan; any thread may call its methods."""

    def __init__(self, plan: Sequence[Fault] = ()):
        mine = [fault for fault in plan if fault.kind in OF_THE_API]
        self._submits = [fault for fault in mine if fault.kind == "refused_submit"]
        self._looks = [[fault, fault.calls] for fault in mine if fault.kind != "refused_submit"]
        self._num_submits, self._first_submit_at = 0, float("inf")
        self._lock = threading.Lock()

    @property
    def unplayed(self) -> list[str]:
        return [str(fault) for fault in (*(fault for fault, _ in self._looks), *self._submits)]

    def meet(self, operation: str) -> None:
        """Lets a call pass, or not.

        Raises:
            RequestRefused: It is refused, in AWS's words.
            Blip: It gets no answer.
        """
        with self._lock:
            if operation == "CreateTrainingJob":
                self._submit()
            elif operation == "CreateHyperParameterTuningJob":
                self._first_submit_at = min(self._first_submit_at, time.monotonic())
            elif operation in LOOKS and self._looks:
                self._look()

    def _submit(self) -> None:
        self._first_submit_at = min(self._first_submit_at, time.monotonic())
        self._num_submits += 1
        for fault in self._submits:
            if fault.number == self._num_submits:
                self._submits.remove(fault)
                raise RequestRefused(
                    "ResourceLimitExceeded",
                    "The account-level service limit for training job usage of this instance type is 1 Instances, with "
                    "current utilization of 1 Instances and a request delta of 1 Instances. Please use AWS Service "
                    "Quotas to request an increase for this quota.",
                )

    def _look(self) -> None:
        fault, calls = self._looks[0]
        after_s = BEGINS_AFTER_S if fault.after_s is None else fault.after_s
        if time.monotonic() - self._first_submit_at < after_s:
            return
        self._looks[0][1] = calls - 1
        if calls <= 1:
            self._looks.pop(0)
        if fault.kind == "blip":
            raise Blip
        raise RequestRefused("ThrottlingException", "Rate exceeded")
