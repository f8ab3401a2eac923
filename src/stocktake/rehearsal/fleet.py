"""The instances behind one variant of an endpoint, all with one model."""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stocktake.cloud.endpoint_requests import STARTUP_S
from stocktake.rehearsal.endpoint_instance import (
    INVOCATION_TIMEOUT_S,
    ContainerAnswer,
    EndpointInstance,
    NotHealthy,
    unpack_model,
)
from stocktake.rehearsal.job_state import RequestRefused
from stocktake.rehearsal.log_api import LogGroups
from stocktake.rehearsal.s3_sync import OpenFolder
from stocktake.rehearsal.serving_image import ServingImage, this_python

WATCH_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Machines:
    """Where instances live, and how they are started.

    Args:
        folder: Holds one of each instance, while it is there.
        startup_timeout_s: To answer /ping; `None` takes the variant's own.
        image: What each of them starts, whichever the model names.
    """

    folder: Path
    logs: LogGroups
    open_folder: OpenFolder
    startup_timeout_s: float | None = None
    image: ServingImage = field(default_factory=this_python)


def new_instance_id() -> str:
    return f"i-{secrets.token_hex(9)[:17]}"


class Fleet:
    """Instances that share the requests in turn and are started again when they die.

    A serverless variant has one, which is started by the first request.

    Args:
        variant: Of a CreateEndpointConfig.
        model: The CreateModel request of the variant's model.
        log_group: Of the endpoint.
    """

    def __init__(self, variant: Mapping[str, Any], model: Mapping[str, Any], log_group: str, machines: Machines):
        self.variant, self.container, self.log_group = variant, model["PrimaryContainer"], log_group
        self.machines = machines
        self.is_serverless = "ServerlessConfig" in variant
        self.num_instances = 1 if self.is_serverless else variant["InitialInstanceCount"]
        self._instances: list[EndpointInstance] = []
        self._next = self._num_inside = 0
        self._changed, self._starting = threading.Condition(), threading.Lock()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name=f"fleet of {log_group}", daemon=True)

    @property
    def startup_timeout_s(self) -> float:
        own = self.variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_S)  # AWS does not say its default
        return own if self.machines.startup_timeout_s is None else self.machines.startup_timeout_s

    def start(self) -> None:
        """Starts the instances of a variant that is not serverless, and returns when all answer /ping.

        Raises:
            NotHealthy: One does not; SageMaker's words.
        """
        if not self.is_serverless:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._instances or self._closing.is_set():
                return
            instances = [self._new_instance() for _ in range(self.num_instances)]
            try:
                for instance in instances:
                    unpack_model(self.container["ModelDataUrl"], instance.base / "model", self.machines.open_folder)
                    instance.start()
                if not all(
                    instance.wait_until_healthy(self.startup_timeout_s, self._closing) for instance in instances
                ):
                    raise NotHealthy(
                        f"The primary container for production variant {self.variant['VariantName']} did not pass the "
                        "ping health check. Please check CloudWatch logs for this endpoint."
                    )
            except NotHealthy:
                _end(instances)
                raise
            self._instances = instances
        self._watcher.start()

    def _new_instance(self) -> EndpointInstance:
        name = new_instance_id()
        log = self.machines.logs.create(self.log_group, f"{self.variant['VariantName']}/{name}")
        environment = self.container.get("Environment", {})
        return EndpointInstance(name, self.machines.folder / name, log, self.machines.image, environment)

    def _watch(self) -> None:
        """Starts what has died anew, under its name and with its log."""
        while not self._closing.wait(WATCH_INTERVAL_S):
            for instance in self._instances:
                with self._starting:
                    if not instance.runs and not self._closing.is_set():
                        instance.start()
                if not instance.is_ready:
                    instance.ping()

    def enter(self) -> None:
        """Counts a request in, which `leave` counts out: what is inside has an instance until it is answered."""
        with self._changed:
            if self.is_serverless and self._num_inside >= self.variant["ServerlessConfig"]["MaxConcurrency"]:
                raise RequestRefused("ThrottlingException", "Rate exceeded")
            self._num_inside += 1

    def leave(self) -> None:
        with self._changed:
            self._num_inside -= 1
            self._changed.notify_all()

    def invoke(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> tuple[str, ContainerAnswer]:
        """Has the next instance answer; returns its id and the answer.

        Raises:
            NotHealthy: A serverless variant's instance does not start, or all instances have died a moment ago.
            NoAnswer: None came in time.
        """
        self._start()
        ready = [instance for instance in self._instances if instance.is_ready and instance.runs]
        if not ready:
            raise NotHealthy(f"No instance of variant {self.variant['VariantName']} answers /ping.")
        with self._changed:
            instance = ready[self._next % len(ready)]
            self._next += 1
        return instance.name, instance.invoke(body, headers, timeout_s)

    def instance_ids(self) -> list[str]:
        return [instance.name for instance in self._instances]

    def give_up(self) -> None:
        """Ends the waiting for instances that are being started; `close` follows."""
        self._closing.set()

    def close(self) -> None:
        """Lets what is inside come to its answer, then ends the instances."""
        with self._changed:
            self._changed.wait_for(lambda: self._num_inside == 0, INVOCATION_TIMEOUT_S)
        self._closing.set()
        with self._starting:
            _end(self._instances)
        if self._watcher.is_alive():
            self._watcher.join()


def _end(instances: list[EndpointInstance]) -> None:
    for instance in instances:
        instance.terminate()
    for instance in instances:
        instance.wait_until_ended()
