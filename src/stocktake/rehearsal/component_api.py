"""SageMaker's operations of inference components: models that share an endpoint's instances, down to no copy at all.

A component comes to be, changes and goes as an endpoint does, so an `Endpoint` of the rehearsal stands behind each,
with a fleet of as many instances as it has copies. An update goes over all at once, whatever its batch size.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from stocktake.rehearsal.alarm_api import Alarms
from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.blue_green import alarm_names
from stocktake.rehearsal.endpoint_api import EndpointApi
from stocktake.rehearsal.endpoint_state import Deployed, Endpoint
from stocktake.rehearsal.fleet import Fleet
from stocktake.rehearsal.job_state import RequestRefused
from stocktake.rehearsal.listing import page
from stocktake.rehearsal.resource_store import ResourceStore, arn

LOG_GROUP = "/aws/sagemaker/InferenceComponents"


class Component:
    """An inference component.

    Args:
        request: Of CreateInferenceComponent.
        copies: Its fleet, as something that is created, updated and deleted.
    """

    def __init__(self, request: Mapping[str, Any], copies: Endpoint):
        self.name, self.endpoint, self.variant = (
            request[field] for field in ("InferenceComponentName", "EndpointName", "VariantName")
        )
        self.arn, self.copies = arn("inference-component", self.name), copies
        self.specification: Mapping[str, Any] = request["Specification"]
        self.last_deployment: Mapping[str, Any] | None = None

    @property
    def num_copies(self) -> int:
        return self.copies.deployed.fleet.num_instances

    def summary(self) -> dict[str, Any]:
        """Returns the component as in the answer of ListInferenceComponents."""
        return {
            "InferenceComponentName": self.name,
            "InferenceComponentArn": self.arn,
            "EndpointName": self.endpoint,
            "EndpointArn": arn("endpoint", self.endpoint),
            "VariantName": self.variant,
            "InferenceComponentStatus": self.copies.status,
            "CreationTime": self.copies.created_at,
            "LastModifiedTime": self.copies.modified_at,
        }

    def describe(self) -> dict[str, Any]:
        """Returns the component as in the answer of DescribeInferenceComponent."""
        runs = {**self.specification, "ModelName": self.copies.deployed.config["ModelName"]}
        counts = {"DesiredCopyCount": self.num_copies, "CurrentCopyCount": self.num_copies}
        seen = {**self.summary(), "Specification": runs, "RuntimeConfig": counts}
        optional = {"FailureReason": self.copies.failure_reason, "LastDeploymentConfig": self.last_deployment}
        return seen | {name: value for name, value in optional.items() if value is not None}


class ComponentApi:
    """The inference components of the rehearsed account.

    Attributes:
        forget: Are told the name of a component that is deleted.
    """

    def __init__(self, endpoints: EndpointApi, alarms: Alarms, time_scale: float):
        self.endpoints, self.alarms, self.time_scale = endpoints, alarms, time_scale
        self.components: ResourceStore[Component] = ResourceStore("inference-component", "inference component")
        self.forget: list[Callable[[str], None]] = []
        self._deletions: list[threading.Thread] = []

    def operations(self) -> Operations:
        return {
            "CreateInferenceComponent": self._create,
            "UpdateInferenceComponent": self._update,
            "UpdateInferenceComponentRuntimeConfig": self._set_copies,
            "DescribeInferenceComponent": lambda request: self._get(request).describe(),
            "ListInferenceComponents": self._list,
            "DeleteInferenceComponent": self._delete,
        }

    def close(self) -> None:
        """Ends all copies."""
        for component in self.components.all():
            self._delete({"InferenceComponentName": component.name})
        for thread in self._deletions:
            thread.join()

    def of_endpoint(self, name: str) -> list[Component]:
        return [component for component in self.components.all() if component.endpoint == name]

    def exists(self, name: str) -> bool:
        return any(component.name == name for component in self.components.all())

    def bring_first_copy(self, name: str) -> None:
        """Does what a step policy does for a component without a copy, unless that is under way."""
        component = self.components.get(name)
        if component.num_copies == 0 and component.copies.status == "InService":
            self._set_copies({"InferenceComponentName": name, "DesiredRuntimeConfig": {"CopyCount": 1}})

    def _get(self, request: Mapping) -> Component:
        return self.components.get(request["InferenceComponentName"])

    def _deployed(self, name: str, specification: Mapping[str, Any], num_copies: int) -> Deployed:
        if "ModelName" not in specification:
            raise RequestRefused("ValidationException", "Specification: a rehearsal plays a ModelName.")
        model = self.endpoints.models.get(specification["ModelName"]).request
        copies = {"VariantName": name, "InitialInstanceCount": num_copies}
        fleet = Fleet(copies, model, f"{LOG_GROUP}/{name}", self.endpoints.machines)
        return Deployed({"ModelName": specification["ModelName"]}, fleet)

    def _create(self, request: Mapping) -> dict:
        name, endpoint = request["InferenceComponentName"], self.endpoints.endpoints.get(request["EndpointName"])
        if endpoint.status != "InService" or not endpoint.hosts_components:
            text = f"Endpoint {endpoint.name} is {endpoint.status}, or its variant holds a model itself."
            raise RequestRefused("ValidationException", text)  # AWS's own words are not known
        deployed = self._deployed(name, request["Specification"], request["RuntimeConfig"]["CopyCount"])
        component = Component(request, Endpoint(name, deployed, self.alarms.first_in_alarm, self.time_scale))
        self.components.add(name, component)
        self.endpoints.tags.keep(component.arn, request)
        component.copies.create()
        return {"InferenceComponentArn": component.arn}

    def _update(self, request: Mapping) -> dict:
        component, deployment = self._get(request), request.get("DeploymentConfig", {})
        self.alarms.refuse_unknown(alarm_names(deployment))
        green = self._deployed(component.name, request["Specification"], component.num_copies)
        wait_s = deployment.get("RollingUpdatePolicy", {}).get("WaitIntervalInSeconds", 0)
        at_once = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": wait_s}}
        component.copies.update(green, {**deployment, "BlueGreenUpdatePolicy": at_once})
        component.last_deployment = deployment or None
        return {"InferenceComponentArn": component.arn}

    def _set_copies(self, request: Mapping) -> dict:
        component, num_copies = self._get(request), request["DesiredRuntimeConfig"]["CopyCount"]
        runs = component.copies.deployed.config
        component.copies.update(self._deployed(component.name, runs, num_copies), None)
        return {"InferenceComponentArn": component.arn}

    def _list(self, request: Mapping) -> dict:
        endpoint = request.get("EndpointNameEquals")
        found = self.components.all() if endpoint is None else self.of_endpoint(endpoint)
        return page([each.summary() for each in found], request, "InferenceComponent", "InferenceComponents")

    def _delete(self, request: Mapping) -> dict:
        component = self._get(request)
        if not component.copies.begin_deletion():
            return {}
        for forget in self.forget:
            forget(component.name)

        def delete() -> None:
            component.copies.delete()
            self.components.remove(component.name)
            self.endpoints.tags.forget(component.arn)

        thread = threading.Thread(target=delete, name=f"deletion of {component.name}")
        self._deletions.append(thread)
        thread.start()
        return {}
