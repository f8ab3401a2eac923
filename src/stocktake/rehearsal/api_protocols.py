"""The protocols in which AWS's APIs are asked, so that here an operation is a function from a request to a response.

    AWS JSON    POST /, X-Amz-Target names the operation      sagemaker, logs, application-autoscaling, cloudwatch
    REST JSON   a path and a verb for each operation          sagemaker-runtime, scheduler
    RPC CBOR    POST /service/<name>/operation/<operation>    cloudwatch, as boto3 asks it

Which field of a request stands in the path, a header or the body, and which status an error has, botocore's service
model says; every request is checked against it.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

from stocktake.cloud.validation import RequestError, check_request, service_model
from stocktake.rehearsal.cbor import decoded, encoded
from stocktake.rehearsal.job_state import RequestRefused

Operations = Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]

MAX_BODY_BYTES = 2**20  # read before anybody knows who asks


@dataclass(frozen=True)
class Call:
    """One HTTP request; `path` and `query` are as they were sent."""

    method: str
    path: str
    query: str
    headers: Message
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    content: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Service(Protocol):
    """An API as the server meets it.

    Attributes:
        signing_name: For which its requests are signed.
    """

    signing_name: str
    max_body_bytes: int

    def operation(self, call: Call) -> str | None:
        """Returns which operation a call asks for, `None` where it asks for nothing of this API."""
        ...

    def answer(self, operation: str, call: Call) -> Answer:
        """
        Raises:
            RequestRefused: AWS would answer with an error.
            ValueError: The body cannot be read.
        """
        ...

    def refusal(self, refused: RequestRefused) -> Answer:
        """Returns an error in the API's protocol."""
        ...

    def too_large(self, num_bytes: int) -> RequestRefused:
        """Returns the error of a body that is larger than `max_body_bytes`."""
        ...


class JsonApi:
    """AWS JSON.

    Args:
        service: botocore's name of the API.
        operations: Those that are rehearsed.
        invalid: What the API calls the error of a request that breaks its model.
    """

    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, service: str, operations: Operations, invalid: str = "ValidationException"):
        self.service, self.operations, self.invalid = service, operations, invalid
        self.model = service_model(service)
        self.signing_name = self.model.signing_name

    def operation(self, call: Call) -> str | None:
        prefix, _, name = call.headers.get("X-Amz-Target", "").partition(".")
        return name if prefix == self.model.metadata["targetPrefix"] else None

    def answer(self, operation: str, call: Call) -> Answer:
        return self._json(self.respond(operation, json.loads(call.body or b"{}")))

    def respond(self, operation: str, request: Mapping) -> dict[str, Any]:
        """Returns the response to a request.

        Raises:
            RequestRefused: AWS would answer with an error.
        """
        if operation not in self.operations:
            known = ", ".join(self.operations)
            raise RequestRefused("UnknownOperationException", f"{operation} is not rehearsed; {known} are.")
        try:
            check_request(operation, request, service=self.service)
        except RequestError as error:
            raise RequestRefused(self.invalid, str(error)) from error
        return self.operations[operation](request)

    def refusal(self, refused: RequestRefused) -> Answer:
        return self._json({"__type": refused.code, "message": str(refused), **refused.fields}, refused.status)

    def too_large(self, num_bytes: int) -> RequestRefused:
        text = f"{num_bytes} bytes; at most {self.max_body_bytes}."
        return RequestRefused("RequestEntityTooLargeException", text)

    def _json(self, content: Mapping, status: int = 200) -> Answer:
        kind = f"application/x-amz-json-{self.model.metadata.get('jsonVersion', '1.1')}"
        return Answer(json.dumps(content, default=datetime.timestamp).encode(), status, {"Content-Type": kind})


class CborApi(JsonApi):
    """RPC CBOR."""

    def operation(self, call: Call) -> str | None:
        beginning = f"/service/{self.model.metadata['targetPrefix']}/operation/"
        return call.path.removeprefix(beginning) if call.path.startswith(beginning) else None

    def answer(self, operation: str, call: Call) -> Answer:
        return self._json(self.respond(operation, decoded(call.body) if call.body else {}))

    def _json(self, content: Mapping, status: int = 200) -> Answer:
        headers = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        return Answer(encoded(content), status, headers)


class RestApi(JsonApi):
    """REST JSON."""

    def operation(self, call: Call) -> str | None:
        for name in self.model.operation_names:
            http = self.model.operation_model(name).http
            if http["method"] == call.method and _path_pattern(http["requestUri"]).fullmatch(call.path):
                return name
        return None

    def answer(self, operation: str, call: Call) -> Answer:
        model = self.model.operation_model(operation)
        response = self.respond(operation, _rest_request(model, call))
        shape, headers = model.output_shape, {"Content-Type": "application/json"}
        for name, value in response.items():
            where = shape.members[name].serialization
            if where.get("location") == "header":
                headers[where["name"]] = value
        body = {name: response[name] for name in response if "location" not in shape.members[name].serialization}
        payload = shape.serialization.get("payload")
        content = response[payload] if payload else json.dumps(body, default=datetime.timestamp).encode()
        return Answer(content, model.http.get("responseCode", 200), headers)

    def refusal(self, refused: RequestRefused) -> Answer:
        shape = self.model.shape_for(refused.code) if refused.code in self.model.shape_names else None
        status = shape.metadata.get("error", {}).get("httpStatusCode") if shape else None
        headers = {"Content-Type": "application/json", **({"x-amzn-ErrorType": refused.code} if refused.code else {})}
        content = json.dumps({"Message": str(refused), **refused.fields}).encode()
        return Answer(content, status or refused.status, headers)


def _path_pattern(uri: str) -> re.Pattern:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", uri))


def _rest_request(model: Any, call: Call) -> dict[str, Any]:
    """Gathers the fields of a request from where botocore's model says that they stand."""
    shape, query = model.input_shape, parse_qs(call.query)
    found = _path_pattern(model.http["requestUri"]).fullmatch(call.path)
    payload = shape.serialization.get("payload")
    request: dict[str, Any] = {payload: call.body} if payload else json.loads(call.body or b"{}")
    for name, member in shape.members.items():
        where, key = member.serialization.get("location"), member.serialization.get("name", name)
        value = None
        if where == "uri" and found:
            value = unquote(found[key])
        elif where == "header":
            value = call.headers.get(key)
        elif where == "querystring" and key in query:
            value = query[key][0]
        if value is not None:
            request[name] = int(value) if member.type_name in ("integer", "long") else value
    return request
