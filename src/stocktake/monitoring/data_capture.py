"""SageMaker's data capture: one JSON line for each answer of an endpoint, read as lines of the prediction log.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html: `captureData` has what went in
and out, each with `observedContentType`, `encoding` (CSV, JSON or BASE64) and `data`; `eventMetadata` has `eventId`,
`inferenceTime` and, where the client gave them, `inferenceId` and `customAttributes`. Only answers are captured, no
errors and no latency but the model's own.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stocktake.images.decoding import UndecodableImage, read_pixels
from stocktake.serving.custom_attributes import EXPECTED_COUNT, IMAGE_ID, image_id_of, kept_id, read_attributes
from stocktake.serving.logged_answer import LoggedAnswer, measure_reduced, reduced

CAPTURE_DATA = "captureData"
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Asked:
    """A request: the image's bytes, where they are captured, and what else it says."""

    image: bytes | None
    image_id: str | None
    expected_count: int | None


def read_capture(plain: Mapping[str, Any]) -> LoggedAnswer:
    """Returns the answer that a captured line is of, its image measured as the server measures it.

    Raises:
        ValueError: It is no such line, or its answer is none of this project's.
        KeyError: It lacks a part.
    """
    capture, event = plain[CAPTURE_DATA], plain["eventMetadata"]
    prediction = json.loads(_content(capture["endpointOutput"]))
    moment = datetime.fromisoformat(event["inferenceTime"])
    asked = _read_request(capture.get("endpointInput"), event.get("customAttributes", ()))
    return LoggedAnswer.from_json(
        {
            "time": moment.isoformat(),
            "request_id": event.get("inferenceId") or event["eventId"],
            "model_version": prediction["model_version"],
            "status": 200,
            "latency_s": prediction["milliseconds"] / 1000,
            "bytes": None if asked.image is None else len(asked.image),
            "image_id": asked.image_id,
            "count": prediction["count"],
            "probabilities": prediction["probabilities"],
            "expected_count": asked.expected_count,
            **_measured(asked.image),
        }
    )


def _content(part: Mapping[str, Any]) -> bytes:
    return base64.b64decode(part["data"]) if part.get("encoding") == "BASE64" else part["data"].encode()


def _read_request(part: Mapping[str, Any] | None, attributes: Sequence[str]) -> Asked:
    """Returns what a request says, as far as it is captured: `part` is `None` where only the output is."""
    fields: dict[str, Any] = dict(pair for text in attributes for pair in read_attributes(text))
    if EXPECTED_COUNT in fields:
        fields[EXPECTED_COUNT] = int(fields[EXPECTED_COUNT])
    content = b"" if part is None else _content(part)
    image = content or None
    if part is not None and part.get("observedContentType", "").startswith(JSON_TYPE):
        plain = json.loads(content)
        image = base64.b64decode(plain["image"]) if "image" in plain else None  # s3_key names one that is elsewhere
        fields = plain | fields
    image_id = kept_id(fields.get(IMAGE_ID) or image_id_of(fields.get("s3_key", "")))
    return Asked(image, image_id, fields.get(EXPECTED_COUNT))


def _measured(image: bytes | None) -> dict[str, Any]:
    if image is None:
        return {}
    try:
        pixels_HW3 = read_pixels(image)
    except UndecodableImage:  # a form, whose image lies between its other parts
        return {}
    height_px, width_px, _ = pixels_HW3.shape
    return measure_reduced(reduced(pixels_HW3), width_px, height_px)
