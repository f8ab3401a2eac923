"""What data capture writes to S3 of an endpoint's requests and answers, a JSON line for each.

Developer guide of SageMaker, "Capture data from real-time endpoint". AWS gathers several lines into one object; here
each has its own, under a name of the same form.
"""

import base64
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stocktake.rehearsal.s3_sync import OpenFolder


@dataclass(frozen=True)
class Exchange:
    """One request to an endpoint and its answer.

    Attributes:
        request: Of InvokeEndpoint.
        content_type: Of the answer.
    """

    endpoint: str
    variant: str
    request: Mapping[str, Any]
    answer: bytes
    content_type: str


class DataCapture:
    """Writes beside the answering, as AWS does; any thread may call its methods."""

    def __init__(self, open_folder: OpenFolder):
        self.open_folder = open_folder
        self._num_seen: Counter[str] = Counter()
        self._writer = ThreadPoolExecutor(1, "data capture")

    def close(self) -> None:
        """Returns when all has been written."""
        self._writer.shutdown()

    def keep(self, config: Mapping[str, Any], exchange: Exchange) -> None:
        """Keeps an exchange if the endpoint captures, and it is one of the share that is captured.

        AWS draws the share by chance; here every n-th of a variant is kept.

        Args:
            config: Of the endpoint.
        """
        capture = config.get("DataCaptureConfig")
        if capture is None or not capture.get("EnableCapture", True):
            return
        variant = f"{exchange.endpoint}/{exchange.variant}"
        number, percent = self._num_seen[variant], capture["InitialSamplingPercentage"]
        self._num_seen[variant] += 1
        if (number + 1) * percent // 100 > number * percent // 100:
            self._writer.submit(self._write, capture, exchange, datetime.now(UTC))

    def _write(self, config: Mapping[str, Any], exchange: Exchange, at: datetime) -> None:
        name = f"{at:%M-%S}-{at.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"
        folder = f"{config['DestinationS3Uri'].rstrip('/')}/{exchange.endpoint}/{exchange.variant}/{at:%Y/%m/%d/%H}"
        self.open_folder(folder).write(name, f"{json.dumps(captured(config, exchange, at))}\n".encode())


def captured(config: Mapping[str, Any], exchange: Exchange, at: datetime) -> dict[str, Any]:
    """Returns the line of an exchange."""
    request, modes = exchange.request, {option["CaptureMode"] for option in config["CaptureOptions"]}
    kinds = config.get("CaptureContentTypeHeader", {})
    data = {}
    if modes & {"Input", "InputAndOutput"}:
        data["endpointInput"] = _side("INPUT", request.get("Body", b""), request.get("ContentType", ""), kinds)
    if modes & {"Output", "InputAndOutput"}:
        data["endpointOutput"] = _side("OUTPUT", exchange.answer, exchange.content_type, kinds)
    event: dict[str, Any] = {"eventId": str(uuid.uuid4()), "inferenceTime": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
    if "CustomAttributes" in request:
        event["customAttributes"] = [request["CustomAttributes"]]
    if "InferenceId" in request:
        event["inferenceId"] = request["InferenceId"]
    return {"captureData": data, "eventMetadata": event, "eventVersion": "0"}


def _side(mode: str, content: bytes, content_type: str, kinds: Mapping[str, list[str]]) -> dict[str, str]:
    plain_type = content_type.partition(";")[0].strip()
    encoding = "BASE64"  # of whatever is not listed
    if plain_type in kinds.get("JsonContentTypes", ()):
        encoding = "JSON"
    elif plain_type in kinds.get("CsvContentTypes", ()):
        encoding = "CSV"
    text = base64.b64encode(content).decode() if encoding == "BASE64" else content.decode(errors="replace")
    return {"observedContentType": content_type, "mode": mode, "data": text, "encoding": encoding}
