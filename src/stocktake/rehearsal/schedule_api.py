"""EventBridge Scheduler: a call of SageMaker's that is made once, when its time has come."""

import json
import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.job_state import ACCOUNT, REGION, RequestRefused

AT = re.compile(r"at\((?P<at>[0-9T:-]+)\)")
TARGET = re.compile(r"arn:aws:scheduler:::aws-sdk:sagemaker:(?P<operation>[a-zA-Z]+)")
GROUP = "default"


class Schedules:
    """The schedules of the rehearsed account; any thread may call its methods.

    Args:
        targets: SageMaker's operations that a schedule may call.
    """

    def __init__(self, targets: Operations):
        self.targets = targets
        self._schedules: dict[str, dict[str, Any]] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {
            "CreateSchedule": self._create,
            "UpdateSchedule": self._update,
            "GetSchedule": lambda request: self._get(request["Name"]),
            "ListSchedules": self._list,
            "DeleteSchedule": self._delete,
        }

    def close(self) -> None:
        with self._lock:
            for timer in self._timers.values():
                timer.cancel()

    def _create(self, request: Mapping) -> dict:
        with self._lock:
            if request["Name"] in self._schedules:
                raise RequestRefused("ConflictException", f"Schedule {request['Name']} already exists.")
        return self._keep(request, time.time())

    def _update(self, request: Mapping) -> dict:
        return self._keep(request, self._get(request["Name"])["CreationDate"])

    def _keep(self, request: Mapping, created_at: float) -> dict:
        name, delay_s, call = request["Name"], _due_at(request) - time.time(), self._call(request)
        arn = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/{GROUP}/{name}"
        kept = {key: value for key, value in request.items() if key != "ClientToken"}
        defaults = {"GroupName": GROUP, "State": "ENABLED", "ScheduleExpressionTimezone": "UTC"}
        timer = threading.Timer(max(0.0, delay_s), self._run, (name, call))
        timer.daemon = True
        with self._lock:
            if name in self._timers:
                self._timers[name].cancel()
            self._timers[name] = timer
            times = {"CreationDate": created_at, "LastModificationDate": time.time()}
            self._schedules[name] = defaults | kept | times | {"Arn": arn}
        timer.start()
        return {"ScheduleArn": arn}

    def _call(self, request: Mapping) -> tuple[str, Mapping]:
        """Returns the operation and the request of a schedule's target."""
        found = TARGET.fullmatch(request["Target"]["Arn"])
        operation = f"{found['operation'][0].upper()}{found['operation'][1:]}" if found else ""
        if operation not in self.targets:
            text = f"Target.Arn: a rehearsal plays aws-sdk:sagemaker with {', '.join(self.targets)}."
            raise RequestRefused("ValidationException", text)
        try:
            return operation, json.loads(request["Target"].get("Input", "{}"))
        except ValueError as error:
            raise RequestRefused("ValidationException", f"Target.Input is no JSON: {error}.") from error

    def _run(self, name: str, call: tuple[str, Mapping]) -> None:
        with self._lock:
            if self._timers.get(name) is not threading.current_thread():
                return  # it was changed meanwhile
            schedule = self._schedules[name]
            if schedule.get("ActionAfterCompletion") == "DELETE":
                del self._schedules[name], self._timers[name]
        operation, request = call
        if schedule["State"] == "ENABLED":
            try:
                self.targets[operation](request)
            except RequestRefused:
                return  # it is gone already; AWS tries again for a day, and tells nobody

    def _get(self, name: str) -> dict:
        with self._lock:
            if name not in self._schedules:
                raise RequestRefused("ResourceNotFoundException", f"Schedule {name} does not exist.")
            return dict(self._schedules[name])

    def _list(self, request: Mapping) -> dict:
        fields = ("Arn", "Name", "GroupName", "State", "CreationDate", "LastModificationDate")
        with self._lock:
            found = [
                {field: kept[field] for field in fields} | {"Target": {"Arn": kept["Target"]["Arn"]}}
                for name, kept in sorted(self._schedules.items())
                if name.startswith(request.get("NamePrefix", ""))
            ]
        return {"Schedules": found}

    def _delete(self, request: Mapping) -> dict:
        self._get(request["Name"])
        with self._lock:
            self._schedules.pop(request["Name"], None)
            self._timers.pop(request["Name"]).cancel()
        return {}


def _due_at(request: Mapping) -> float:
    """Returns the seconds since 1970 at which a schedule is due; what AWS does with a past time is not documented."""
    found = AT.fullmatch(request["ScheduleExpression"])
    if not found:
        raise RequestRefused("ValidationException", "ScheduleExpression: a rehearsal plays at(yyyy-mm-ddThh:mm:ss).")
    try:
        zone = ZoneInfo(request.get("ScheduleExpressionTimezone", "UTC"))
        return datetime.fromisoformat(found["at"]).replace(tzinfo=zone).timestamp()
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise RequestRefused("ValidationException", f"Invalid Schedule Expression: {error}.") from error
