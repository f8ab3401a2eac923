"""SageMaker's hosting on this machine: endpoints, batch jobs and what stands beside them.

    with Hosting(folder, s3_folder=folder / "s3", time_scale=0.01) as hosting, \\
            RehearsalServer(hosting=hosting) as server:
        server.client("sagemaker").create_model(...)
        server.client("sagemaker-runtime").invoke_endpoint(...)

Behind an endpoint runs the real server, as a process of its own, from the unpacked model.tar.gz. What differs from
AWS: no image is pulled (the server runs in this Python, from this repository, or in one that has what the Dockerfile
installs), and instances of every type are this machine.
"""

from pathlib import Path
from typing import Self

from stocktake.rehearsal.alarm_api import Alarms
from stocktake.rehearsal.api_protocols import CborApi, JsonApi, Operations, RestApi, Service
from stocktake.rehearsal.async_invocations import Queues
from stocktake.rehearsal.component_api import ComponentApi
from stocktake.rehearsal.data_capture import DataCapture
from stocktake.rehearsal.endpoint_api import EndpointApi
from stocktake.rehearsal.fleet import Machines
from stocktake.rehearsal.invocation_counts import InvocationCounts
from stocktake.rehearsal.log_api import LogGroups
from stocktake.rehearsal.registry_api import ModelRegistry
from stocktake.rehearsal.runtime_api import Invocations, RuntimeApi
from stocktake.rehearsal.s3_sync import opener
from stocktake.rehearsal.scaling_api import ScalableTargets
from stocktake.rehearsal.schedule_api import Schedules
from stocktake.rehearsal.serving_image import ServingImage, this_python
from stocktake.rehearsal.tag_api import Tags
from stocktake.rehearsal.transform_api import TransformJobs
from stocktake.storage import StorageOptions


class Hosting:
    """What an account has for serving models; a context manager that leaves no process behind.

    Args:
        folder: Holds a folder for every instance, and the logs.
        s3_folder: A local folder that stands in for S3 (s3://bucket/key lies in bucket/key); `None` takes S3 itself.
        storage: How to reach S3.
        time_scale: By which AWS's waits and alarms' periods are multiplied, so that minutes pass in seconds.
        startup_timeout_s: For an instance to answer /ping; `None` takes what the variant says.
        image: What every instance starts; `None` is this Python, and `clean_image` what the Dockerfile makes.
    """

    def __init__(
        self,
        folder: str | Path,
        s3_folder: str | Path | None = None,
        storage: StorageOptions | None = None,
        time_scale: float = 1.0,
        startup_timeout_s: float | None = None,
        image: ServingImage | None = None,
    ):
        folder = Path(folder).absolute()
        self.logs, open_folder = LogGroups(folder / "logs"), opener(s3_folder, storage)
        image = image or this_python()
        self.machines = Machines(folder / "instances", self.logs, open_folder, startup_timeout_s, image)
        counts, self.tags = InvocationCounts(), Tags()
        self.alarms, self.registry = Alarms(counts, time_scale), ModelRegistry(self.tags)
        self.endpoint_api = EndpointApi(self.machines, self.alarms, self.registry, self.tags, time_scale)
        self.component_api = ComponentApi(self.endpoint_api, self.alarms, time_scale)
        self.endpoint_api.is_occupied = lambda name: bool(self.component_api.of_endpoint(name))
        self.scaling = ScalableTargets(self._exists)
        self.capture, self.queues = DataCapture(open_folder), Queues(open_folder)
        self.endpoint_api.forget += [lambda name: self.scaling.forget(f"endpoint/{name}"), self.queues.forget]
        self.component_api.forget.append(lambda name: self.scaling.forget(f"inference-component/{name}"))
        self.endpoint_api.is_scaled = self.scaling.is_registered
        self.invocations = Invocations(
            self.endpoint_api.endpoints, self.component_api, counts, self.capture, self.queues, self._leave_zero
        )
        self.transforms = TransformJobs(self.machines, self.endpoint_api.models, self.tags)
        self.schedules = Schedules({**self.endpoint_api.operations(), **self.component_api.operations()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.schedules.close()
        self.transforms.close()
        self.queues.close()
        self.invocations.shadows.close()
        self.component_api.close()
        self.endpoint_api.close()
        self.capture.close()

    def _exists(self, resource: str) -> bool:
        kind, _, name = resource.partition("/")
        return (self.component_api if kind == "inference-component" else self.endpoint_api).exists(name)

    def _leave_zero(self, component: str) -> None:
        """Brings a copy of a component that was asked and has none, where an alarm carries out its step policy."""
        policies = self.scaling.policies_at_zero(f"inference-component/{component}")
        dimensions = {"InferenceComponentName": component}
        if self.alarms.carries_out("NoCapacityInvocationFailures", dimensions, policies):
            self.component_api.bring_first_copy(component)

    def sagemaker_operations(self) -> Operations:
        parts = (self.endpoint_api, self.component_api, self.transforms, self.registry, self.tags)
        return {name: operation for part in parts for name, operation in part.operations().items()}

    def services(self) -> list[Service]:
        """Returns the APIs beside SageMaker's own."""
        alarms = self.alarms.operations()
        return [
            RuntimeApi(self.invocations.operations()),
            CborApi("cloudwatch", alarms, invalid="ValidationError"),
            JsonApi("cloudwatch", alarms, invalid="ValidationError"),
            JsonApi("application-autoscaling", self.scaling.operations()),
            RestApi("scheduler", self.schedules.operations()),
        ]
