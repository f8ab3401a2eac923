"""SageMaker's operations of models, endpoint configurations and endpoints."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from stocktake.rehearsal.alarm_api import Alarms
from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.blue_green import alarm_names
from stocktake.rehearsal.endpoint_state import Deployed, Endpoint
from stocktake.rehearsal.fleet import Fleet, Machines
from stocktake.rehearsal.job_state import RequestRefused
from stocktake.rehearsal.listing import page
from stocktake.rehearsal.registry_api import ModelRegistry
from stocktake.rehearsal.resource_store import Resource, ResourceStore, arn
from stocktake.rehearsal.tag_api import Tags
from stocktake.storage import StorageError, split_url


class EndpointApi:
    """Models, configurations and endpoints of the rehearsed account.

    Args:
        time_scale: By which AWS's waits are multiplied.

    Attributes:
        forget: Are told the name of an endpoint that is deleted.
        is_scaled: Whether a variant of an endpoint is registered with Application Auto Scaling.
        is_occupied: Whether an endpoint of a name hosts inference components.
    """

    def __init__(self, machines: Machines, alarms: Alarms, registry: ModelRegistry, tags: Tags, time_scale: float):
        self.machines, self.alarms, self.registry, self.tags = machines, alarms, registry, tags
        self.time_scale = time_scale
        self.forget: list[Callable[[str], None]] = []
        self.is_scaled: Callable[[str, str], bool] = lambda endpoint, variant: False
        self.is_occupied: Callable[[str], bool] = lambda endpoint: False
        self.models: ResourceStore[Resource] = ResourceStore("model", "model")
        self.configs: ResourceStore[Resource] = ResourceStore("endpoint-config", "endpoint configuration")
        self.endpoints: ResourceStore[Endpoint] = ResourceStore("endpoint", "endpoint")
        self._deletions: list[threading.Thread] = []

    def operations(self) -> Operations:
        return {
            "CreateModel": self._create_model,
            "DescribeModel": lambda request: _described(self.models.get(request["ModelName"]), "ModelArn"),
            "DeleteModel": lambda request: self._remove(self.models, request["ModelName"]),
            "ListModels": self._list_models,
            "CreateEndpointConfig": self._create_config,
            "DescribeEndpointConfig": lambda request: _described(
                self.configs.get(request["EndpointConfigName"]), "EndpointConfigArn"
            ),
            "DeleteEndpointConfig": lambda request: self._remove(self.configs, request["EndpointConfigName"]),
            "ListEndpointConfigs": self._list_configs,
            "CreateEndpoint": self._create,
            "UpdateEndpoint": self._update,
            "DescribeEndpoint": lambda request: self.endpoints.get(request["EndpointName"]).describe(),
            "ListEndpoints": self._list,
            "DeleteEndpoint": self._delete,
        }

    def close(self) -> None:
        """Ends all instances."""
        for endpoint in self.endpoints.all():
            self._delete({"EndpointName": endpoint.name})
        for thread in self._deletions:
            thread.join()

    def exists(self, name: str) -> bool:
        return any(endpoint.name == name for endpoint in self.endpoints.all())

    def _remove(self, store: ResourceStore[Resource], name: str) -> dict:
        self.tags.forget(store.remove(name).arn)
        return {}

    def _create_model(self, request: Mapping) -> dict:
        container = request.get("PrimaryContainer", {})
        if "ModelPackageName" in container:
            container = self.registry.container(container["ModelPackageName"]) | container
        if "ModelDataUrl" not in container or "Image" not in container:
            text = "PrimaryContainer: a rehearsal plays an Image with a ModelDataUrl, and nothing else."
            raise RequestRefused("ValidationException", text)
        folder, name = split_url(container["ModelDataUrl"])
        try:
            is_there = self.machines.open_folder(folder).exists(name)
        except (StorageError, OSError):
            is_there = False
        if not is_there:
            raise RequestRefused("ValidationException", f"Could not find model data at {container['ModelDataUrl']}.")
        model = Resource(arn("model", request["ModelName"]), {**request, "PrimaryContainer": container})
        self.models.add(request["ModelName"], model)
        self.tags.keep(model.arn, request)
        return {"ModelArn": model.arn}

    def _list_models(self, request: Mapping) -> dict:
        return page(_summaries(self.models, "Model"), request, "Model", "Models")

    def _create_config(self, request: Mapping) -> dict:
        variants, shadows = request["ProductionVariants"], request.get("ShadowProductionVariants", ())
        if len(variants) != 1:
            raise RequestRefused("ValidationException", "ProductionVariants: a rehearsal plays one variant.")
        for variant in (*variants, *shadows):
            if "ModelName" in variant:
                self.models.get(variant["ModelName"])
        config = Resource(arn("endpoint-config", request["EndpointConfigName"]), request)
        self.configs.add(request["EndpointConfigName"], config)
        self.tags.keep(config.arn, request)
        return {"EndpointConfigArn": config.arn}

    def _list_configs(self, request: Mapping) -> dict:
        return page(_summaries(self.configs, "EndpointConfig"), request, "EndpointConfig", "EndpointConfigs")

    def _deployed(self, endpoint: str, config_name: str) -> Deployed:
        config = self.configs.get(config_name).request
        variant, log_group = config["ProductionVariants"][0], f"/aws/sagemaker/Endpoints/{endpoint}"
        if "ModelName" not in variant:  # instances come with the inference components, each with a fleet of its own
            none = {**variant, "InitialInstanceCount": 0}
            return Deployed(config, Fleet(none, {"PrimaryContainer": {}}, log_group, self.machines))
        fleet, *shadows = [
            Fleet(each, self.models.get(each["ModelName"]).request, log_group, self.machines)
            for each in (variant, *config.get("ShadowProductionVariants", ()))
        ]
        return Deployed(config, fleet, shadows[0] if shadows else None)

    def _create(self, request: Mapping) -> dict:
        name = request["EndpointName"]
        deployed = self._deployed(name, request["EndpointConfigName"])
        endpoint = Endpoint(name, deployed, self.alarms.first_in_alarm, self.time_scale)
        self.endpoints.add(name, endpoint)
        self.tags.keep(endpoint.arn, request)
        endpoint.create()
        return {"EndpointArn": endpoint.arn}

    def _update(self, request: Mapping) -> dict:
        endpoint, deployment = self.endpoints.get(request["EndpointName"]), request.get("DeploymentConfig")
        if deployment and "RollingUpdatePolicy" in deployment:
            raise RequestRefused("ValidationException", "DeploymentConfig: a rehearsal plays BlueGreenUpdatePolicy.")
        self.alarms.refuse_unknown(alarm_names(deployment or {}))
        if endpoint.hosts_components:
            text = "EndpointName: a rehearsal updates inference components, and not the endpoint that hosts them."
            raise RequestRefused("ValidationException", text)
        green, blue = self._deployed(endpoint.name, request["EndpointConfigName"]), endpoint.deployed
        name, types = blue.variant["VariantName"], [each.variant.get("InstanceType") for each in (blue, green)]
        if self.is_scaled(endpoint.name, name) and types[0] != types[1]:
            raise RequestRefused(
                "ValidationException",
                f'The variant(s) "[{name}]" must be deregistered as scalable targets with AWS Auto Scaling before they '
                "can be removed or have their instance type updated.",
            )
        endpoint.update(green, deployment)
        return {"EndpointArn": endpoint.arn}

    def _list(self, request: Mapping) -> dict:
        summaries = [endpoint.summary() for endpoint in self.endpoints.all()]
        return page(summaries, request, "Endpoint", "Endpoints")

    def _delete(self, request: Mapping) -> dict:
        """Begins to delete an endpoint, in whatever state: which states AWS refuses it does not document."""
        endpoint = self.endpoints.get(request["EndpointName"])
        if self.is_occupied(endpoint.name):  # AWS's own words are not known
            text = f'Cannot delete endpoint "{endpoint.arn}" while it hosts inference components.'
            raise RequestRefused("ValidationException", text)
        if not endpoint.begin_deletion():
            return {}
        for forget in self.forget:
            forget(endpoint.name)

        def delete() -> None:
            endpoint.delete()
            self.endpoints.remove(endpoint.name)
            self.tags.forget(endpoint.arn)

        thread = threading.Thread(target=delete, name=f"deletion of {endpoint.name}")
        self._deletions.append(thread)
        thread.start()
        return {}


def _described(resource: Resource, arn_field: str) -> dict[str, Any]:
    kept = {name: value for name, value in resource.request.items() if name != "Tags"}
    return kept | {arn_field: resource.arn, "CreationTime": resource.created_at}


def _summaries(store: ResourceStore[Resource], kind: str) -> list[dict[str, Any]]:
    return [
        {
            f"{kind}Name": resource.request[f"{kind}Name"],
            f"{kind}Arn": resource.arn,
            "CreationTime": resource.created_at,
        }
        for resource in store.all()
    ]
