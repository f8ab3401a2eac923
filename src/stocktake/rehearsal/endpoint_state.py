"""An endpoint of the rehearsed account: where it stands, and how it comes to be, changes and goes."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stocktake.rehearsal.blue_green import RolledBack, deployment, shift_traffic
from stocktake.rehearsal.endpoint_instance import NotHealthy
from stocktake.rehearsal.fleet import Fleet
from stocktake.rehearsal.job_state import RequestRefused
from stocktake.rehearsal.resource_store import arn
from stocktake.rehearsal.traffic import Traffic

IN_SERVICE = ("InService", "Updating", "RollingBack", "SystemUpdating")  # in which an endpoint answers


@dataclass(frozen=True)
class Deployed:
    """A configuration and what runs under it.

    Attributes:
        shadow: The fleet that is given copies of the requests; None where there is none.
    """

    config: Mapping[str, Any]
    fleet: Fleet
    shadow: Fleet | None = None
    deployed_at: float = field(default_factory=time.time)

    @property
    def variant(self) -> Mapping[str, Any]:
        return self.config["ProductionVariants"][0]

    @property
    def fleets(self) -> list[Fleet]:
        return [self.fleet] if self.shadow is None else [self.fleet, self.shadow]

    def start(self) -> None:
        """Starts what is not serverless, and returns when all answer /ping.

        Raises:
            NotHealthy: One does not.
        """
        for fleet in self.fleets:
            fleet.start()

    def give_up(self) -> None:
        for fleet in self.fleets:
            fleet.give_up()

    def close(self) -> None:
        for fleet in self.fleets:
            fleet.close()


class Endpoint:
    """Any thread may call its methods; what takes long runs in a thread of its own.

    Args:
        alarmed: Returns which of some alarms is in ALARM.
        time_scale: By which AWS's waits are multiplied.
    """

    def __init__(
        self, name: str, deployed: Deployed, alarmed: Callable[[Sequence[str]], str | None], time_scale: float
    ):
        self.name, self.arn = name, arn("endpoint", name)
        self.log_group = f"/aws/sagemaker/Endpoints/{name}"
        self.deployed, self.pending = deployed, None
        self.traffic = Traffic(deployed.fleet)
        self.created_at = self.modified_at = time.time()
        self.status, self.failure_reason = "Creating", None
        self.last_deployment: Mapping[str, Any] | None = None
        self._alarmed, self._time_scale = alarmed, time_scale
        self._deleted = threading.Event()
        self._lock, self._thread = threading.Lock(), threading.Thread(target=self._create, name=name)

    def create(self) -> None:
        """Begins to start its instances, and returns at once."""
        self._thread.start()

    def _enter(self, status: str, failure_reason: str | None = None) -> None:
        with self._lock:
            if self.status != "Deleting":
                self.status, self.failure_reason, self.modified_at = status, failure_reason, time.time()

    def _create(self) -> None:
        try:
            self.deployed.start()
        except NotHealthy as error:
            self._enter("Failed", str(error))
        except BaseException as error:  # a fault of the rehearsal's own, which shall not leave it Creating for ever
            self._enter("Failed", f"The rehearsal failed: {error!r}")
            raise
        else:
            self._enter("InService")

    def update(self, green: Deployed, deployment_config: Mapping[str, Any] | None) -> None:
        """Begins to go over to another configuration, and returns at once.

        Raises:
            RequestRefused: The endpoint is in no state in which it could be updated.
        """
        with self._lock:
            if self.status == "Failed":  # then it can only be deleted (DescribeEndpoint); AWS's own words are not known
                raise RequestRefused("ValidationException", f'Cannot update failed endpoint "{self.arn}".')
            if self.status != "InService":
                raise RequestRefused("ValidationException", f'Cannot update in-progress endpoint "{self.arn}".')
            self.status, self.pending, self.modified_at = "Updating", green, time.time()
            self.last_deployment = deployment_config
        self._thread = threading.Thread(target=self._update, args=(green, deployment_config or {}), name=self.name)
        self._thread.start()

    def _update(self, green: Deployed, deployment_config: Mapping[str, Any]) -> None:
        blue, plan = self.deployed, deployment(deployment_config, green.fleet.num_instances)
        try:
            green.start()
            shift_traffic(
                plan, lambda share: self.traffic.shift(green.fleet, share), self._first_alarm, self._time_scale
            )
        except (NotHealthy, RolledBack) as error:
            self._enter("RollingBack", str(error))
            self.traffic.settle(blue.fleet)
            green.close()
            self.pending = None
            self._enter("InService", str(error))
            return
        self.traffic.settle(green.fleet)
        self._deleted.wait(plan.termination_wait_s * self._time_scale)
        blue.close()
        self.deployed, self.pending = green, None
        self._enter("InService")

    def _first_alarm(self, names: Sequence[str]) -> str | None:
        if self._deleted.is_set():
            raise RolledBack("The endpoint is being deleted.")
        return self._alarmed(names)

    def begin_deletion(self) -> bool:
        """Answers no requests from now on; `delete` follows. Says whether this is the first to ask for it."""
        with self._lock:
            is_first, self.status = self.status != "Deleting", "Deleting"
        return is_first

    def delete(self) -> None:
        """Breaks off what it is doing, ends its instances and returns when they have ended."""
        self._deleted.set()
        for deployed in filter(None, (self.deployed, self.pending)):
            deployed.give_up()
        self._thread.join()
        self.deployed.close()

    @property
    def hosts_components(self) -> bool:
        """Whether its variant holds no model of its own."""
        return "ModelName" not in self.deployed.variant

    @property
    def is_asynchronous(self) -> bool:
        return "AsyncInferenceConfig" in self.deployed.config

    def summary(self) -> dict[str, Any]:
        """Returns the endpoint as in the answer of ListEndpoints."""
        return {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "CreationTime": self.created_at,
            "LastModifiedTime": self.modified_at,
            "EndpointStatus": self.status,
        }

    def describe(self) -> dict[str, Any]:
        """Returns the endpoint as in the answer of DescribeEndpoint."""
        config, pending = self.deployed.config, self.pending
        seen = self.summary() | {"EndpointConfigName": config["EndpointConfigName"]}
        if self.status not in ("Creating", "Failed"):
            seen |= _variants(self.deployed)
        if pending:
            seen["PendingDeploymentSummary"] = {
                "EndpointConfigName": pending.config["EndpointConfigName"],
                **_variants(pending),
                "StartTime": pending.deployed_at,
            }
        optional = {
            "FailureReason": self.failure_reason,
            "LastDeploymentConfig": self.last_deployment,
            "AsyncInferenceConfig": config.get("AsyncInferenceConfig"),
        }
        if "DataCaptureConfig" in config:
            capture = config["DataCaptureConfig"]
            optional["DataCaptureConfig"] = {
                "EnableCapture": capture.get("EnableCapture", True),
                "CaptureStatus": "Started" if capture.get("EnableCapture", True) else "Stopped",
                "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
                "DestinationS3Uri": capture["DestinationS3Uri"],
                "KmsKeyId": capture.get("KmsKeyId", ""),
            }
        return seen | {name: value for name, value in optional.items() if value is not None}


def _variants(deployed: Deployed) -> dict[str, Any]:
    at, shadows = deployed.deployed_at, deployed.config.get("ShadowProductionVariants", ())
    seen = {"ProductionVariants": [_variant(deployed.variant, deployed.fleet, at)]}
    if deployed.shadow is not None:
        seen["ShadowProductionVariants"] = [_variant(shadows[0], deployed.shadow, at)]
    return seen


def _variant(variant: Mapping[str, Any], fleet: Fleet, deployed_at: float) -> dict[str, Any]:
    seen: dict[str, Any] = {"VariantName": variant["VariantName"]}
    if image := fleet.container.get("Image"):  # none where it holds inference components
        resolved = {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": deployed_at}
        seen["DeployedImages"] = [resolved]
    seen |= {name: variant[name] for name in ("ManagedInstanceScaling", "RoutingConfig") if name in variant}
    if "ServerlessConfig" in variant:
        return seen | {"CurrentServerlessConfig": variant["ServerlessConfig"]}
    weight, num_instances = variant.get("InitialVariantWeight", 1.0), variant["InitialInstanceCount"]
    weights = {"CurrentWeight": weight, "DesiredWeight": weight}
    return seen | weights | {"CurrentInstanceCount": num_instances, "DesiredInstanceCount": num_instances}
