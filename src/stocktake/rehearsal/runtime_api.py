"""SageMaker Runtime: InvokeEndpoint and InvokeEndpointAsync."""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from stocktake.rehearsal.api_protocols import Operations, RestApi
from stocktake.rehearsal.async_invocations import Queues, check_input, location_of
from stocktake.rehearsal.component_api import Component, ComponentApi
from stocktake.rehearsal.data_capture import DataCapture, Exchange
from stocktake.rehearsal.endpoint_instance import INVOCATION_TIMEOUT_S, ContainerAnswer, NoAnswer, NotHealthy
from stocktake.rehearsal.endpoint_state import IN_SERVICE, Endpoint
from stocktake.rehearsal.invocation_counts import Invocation, InvocationCounts
from stocktake.rehearsal.job_state import ACCOUNT, REGION, RequestRefused
from stocktake.rehearsal.resource_store import ResourceStore
from stocktake.rehearsal.shadow import Shadows

MAX_PAYLOAD_BYTES, MAX_SERVERLESS_BYTES = 6 * 2**20, 4 * 2**20
# SageMaker hands these on to the container, and strips all others.
TO_THE_CONTAINER = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
}
TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for "
    "each container in Amazon CloudWatch, resolve the issue, and try again."
)


class RuntimeApi(RestApi):
    """The API's protocol, with its own limit and its own error past it."""

    max_body_bytes = MAX_PAYLOAD_BYTES

    def __init__(self, operations: Operations):
        super().__init__("sagemaker-runtime", operations, invalid="ValidationError")

    def too_large(self, num_bytes: int) -> RequestRefused:
        return RequestRefused("", f"HTTP content length exceeded {self.max_body_bytes} bytes.", 413)


class Invocations:
    """Hands requests on to the endpoints' instances."""

    def __init__(
        self,
        endpoints: ResourceStore[Endpoint],
        components: ComponentApi,
        counts: InvocationCounts,
        capture: DataCapture,
        queues: Queues,
        unanswered: Callable[[str], None],
    ):
        self.endpoints, self.components = endpoints, components
        self.counts, self.capture, self.queues, self.unanswered = counts, capture, queues, unanswered
        self.shadows = Shadows(counts, capture)

    def operations(self) -> Operations:
        return {"InvokeEndpoint": self._invoke, "InvokeEndpointAsync": self._invoke_later}

    def _endpoint(self, request: Mapping, is_asynchronous: bool) -> Endpoint:
        name = request["EndpointName"]
        found = next((endpoint for endpoint in self.endpoints.all() if endpoint.name == name), None)
        if found is None or found.status not in IN_SERVICE:
            raise RequestRefused("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        if found.is_asynchronous != is_asynchronous:
            operation = "InvokeEndpointAsync" if found.is_asynchronous else "InvokeEndpoint"
            raise RequestRefused("ValidationError", f"Endpoint {name} is asked by {operation}.")  # AWS's words differ
        return found

    def _invoke(self, request: Mapping) -> dict[str, Any]:
        endpoint, body = self._endpoint(request, False), request.get("Body", b"")
        if endpoint.deployed.fleet.is_serverless and len(body) > MAX_SERVERLESS_BYTES:
            raise RequestRefused("ValidationError", f"Request {uuid.uuid4()} has oversize body.")
        self.shadows.copy(endpoint.name, endpoint.deployed, request, _headers(request))
        variant, answer = self._ask(
            endpoint, body, _headers(request), INVOCATION_TIMEOUT_S, self._component(endpoint, request)
        )
        content_type = answer.headers.get("content-type", "")
        exchange = Exchange(endpoint.name, variant, request, answer.content, content_type)
        self.capture.keep(endpoint.deployed.config, exchange)
        response = {"Body": answer.content, "ContentType": content_type, "InvokedProductionVariant": variant}
        attributes = answer.headers.get(TO_THE_CONTAINER["CustomAttributes"].lower())
        return response | ({"CustomAttributes": attributes} if attributes else {})

    def _component(self, endpoint: Endpoint, request: Mapping) -> Component | None:
        """Returns the inference component that is asked for; None where the variant holds the model.

        Raises:
            RequestRefused: None is named, there is no such one, or it has no copy.
        """
        name = request.get("InferenceComponentName")
        if not endpoint.hosts_components:
            if name is None:
                return None
            raise RequestRefused("ValidationError", f"Endpoint {endpoint.name} hosts no inference component {name}.")
        if name is None:
            raise RequestRefused(
                "ValidationError",
                "Inference Component Name header is required for endpoints to which you plan to deploy inference "
                "components. Please include Inference Component Name header or consider using SageMaker models.",
            )
        found = next((each for each in self.components.of_endpoint(endpoint.name) if each.name == name), None)
        if found is None or found.copies.status not in IN_SERVICE:
            raise RequestRefused("ValidationError", f"Inference Component {name} of account {ACCOUNT} not found.")
        if found.num_copies == 0:
            self.unanswered(name)
            raise RequestRefused(
                "ValidationError",
                "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
                "in-progress (if configured) or try to increase the capacity by invoking "
                "UpdateInferenceComponentRuntimeConfig API.",
            )
        return found

    def _invoke_later(self, request: Mapping) -> dict[str, Any]:
        endpoint = self._endpoint(request, True)
        check_input(request)
        goes_to = location_of(endpoint.deployed.config["AsyncInferenceConfig"], request)

        def ask(body: bytes, timeout_s: float) -> bytes:
            return self._ask(endpoint, body, _headers(request), timeout_s)[1].content

        self.queues.submit(endpoint, ask, request, goes_to)
        response = {"InferenceId": request.get("InferenceId", str(uuid.uuid4())), "OutputLocation": goes_to.output}
        return response | ({"FailureLocation": goes_to.failure} if goes_to.failure else {})

    def _ask(
        self,
        endpoint: Endpoint,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        component: Component | None = None,
    ) -> tuple[str, ContainerAnswer]:
        """Has one of an endpoint's instances answer; returns the variant and its answer.

        Raises:
            RequestRefused: A ModelError, where it is none of 2xx; or no instance could be asked.
        """
        began = time.monotonic()
        with (component.copies if component else endpoint).traffic.fleet() as fleet:
            variant, stream = fleet.variant["VariantName"], ""
            try:
                instance, answer = fleet.invoke(body, headers, timeout_s)
                stream = f"{variant}/{instance}"
            except NotHealthy as error:
                raise RequestRefused("ServiceUnavailable", str(error), 503) from error
            except NoAnswer as error:
                text = TIMED_OUT if error.timed_out else str(error)
                answer = ContainerAnswer(0, text.encode(), {}, time.monotonic() - began)
        name = component.name if component else ""
        self.counts.add(Invocation(endpoint.name, variant, answer.status, answer.latency_s, name))
        if not 200 <= answer.status < 300:
            raise _model_error(endpoint, stream, answer)
        return variant, answer


def _headers(request: Mapping) -> dict[str, str]:
    return {name: request[field] for field, name in TO_THE_CONTAINER.items() if field in request}


def _model_error(endpoint: Endpoint, stream: str, answer: ContainerAnswer) -> RequestRefused:
    side, text = "client" if 400 <= answer.status < 500 else "server", answer.content.decode(errors="replace")
    group = endpoint.log_group
    return RequestRefused(
        "ModelError",
        f'Received {side} error ({answer.status}) from primary with message "{text}". See '
        f"https://{REGION}.console.aws.amazon.com/cloudwatch/home?region={REGION}#logEventViewer:group={group} in "
        f"account {ACCOUNT} for more information.",
        OriginalStatusCode=answer.status,
        OriginalMessage=text,
        LogStreamArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}" + (f":log-stream:{stream}" if stream else ""),
    )
