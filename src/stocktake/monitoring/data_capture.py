"""SageMaker's data capture: one JSON line for each answer of an endpoint, read as lines of the prediction log.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html: `captureData` has what went in
and out, each with `observedContentType`, `encoding` (CSV, JSON or BASE64) and `data`; `eventMetadata` has `eventId`,
`inferenceTime` and, where the client gave one, `inferenceId`. Only answers are captured, no errors and no latency but
the model's own.
"""

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from stocktake.images.decoding import UndecodableImage, read_pixels
from stocktake.serving.logged_answer import LoggedAnswer, measure_reduced, reduced

CAPTURE_DATA = "captureData"
JSON_TYPE = "application/json"


def read_capture(plain: Mapping[str, Any]) -> LoggedAnswer:
    """Returns the answer that a captured line is of, its image measured as the server measures it.

    Raises:
        ValueError: It is no such line, or its answer is none of this project's.
        KeyError: It lacks a part.
    """
    capture, event = plain[CAPTURE_DATA], plain["eventMetadata"]
    prediction = json.loads(_content(capture["endpointOutput"]))
    moment = datetime.fromisoformat(event["inferenceTime"])
    image, expected_count = _image_of(capture.get("endpointInput"))
    return LoggedAnswer.from_json(
        {
            "time": moment.isoformat(),
            "request_id": event.get("inferenceId") or event["eventId"],
            "model_version": prediction["model_version"],
            "status": 200,
            "latency_s": prediction["milliseconds"] / 1000,
            "bytes": None if image is None else len(image),
            "count": prediction["count"],
            "probabilities": prediction["probabilities"],
            "expected_count": expected_count,
            **_measured(image),
        }
    )


def _content(part: Mapping[str, Any]) -> bytes:
    return base64.b64decode(part["data"]) if part.get("encoding") == "BASE64" else part["data"].encode()


def _image_of(part: Mapping[str, Any] | None) -> tuple[bytes | None, int | None]:
    """Returns the image's bytes and the record's count, as far as the request holds them."""
    if part is None:  # only the output is captured
        return None, None
    content = _content(part)
    if not part.get("observedContentType", "").startswith(JSON_TYPE):
        return content, None
    asked = json.loads(content)
    image = base64.b64decode(asked["image"]) if "image" in asked else None  # s3_key names one that is elsewhere
    return image, asked.get("expected_count")


def _measured(image: bytes | None) -> dict[str, Any]:
    if image is None:
        return {}
    try:
        pixels_HW3 = read_pixels(image)
    except UndecodableImage:  # a form, whose image lies between its other parts
        return {}
    height_px, width_px, _ = pixels_HW3.shape
    return measure_reduced(reduced(pixels_HW3), width_px, height_px)
