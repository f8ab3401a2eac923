"""One line of the prediction log: what was answered to one request, or why it was not, as JSON and read back.

Axes: H height, W width.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self

import numpy
from numpy import ndarray
from PIL import Image

from stocktake.images.statistics import REFERENCE_PX, THREAD_PX, measure_image

IMAGE_FIGURES = ("brightness", "sharpness", "strap_density", "width_px", "height_px")
DECIMALS = 5  # of probabilities and figures
SUM_TOLERANCE = 1e-2  # of all P(count), which are rounded
MAX_WHOLE = 2**53  # larger numbers are no measurements, and no floats


@dataclass(frozen=True)
class LoggedAnswer:
    """One request to /invocations; what does not apply to it, or was not measured, is None.

    Attributes:
        time: Of the answer, UTC, ISO 8601.
        request_id: As the client sent it in X-Request-Id or as SageMaker's inference id, else the server's own.
        latency_s: From the request to the last byte of its answer.
        bytes: Of the request's body.
        image_id: As the client names the image, or of one in S3 its file's name without what follows the dot.
        reason: Why it was refused, as /metrics counts it.
        count: The most likely one.
        probabilities: P(count), tempered.
        expected_count: The record's, where the request named one.
        brightness: These and the next two as `ImageStatistics`, of the image reduced to less than 448 px.
        width_px: Of the image as it came.
        image: The body's image in base64, if that was asked for.
    """

    time: str
    request_id: str
    model_version: str
    status: int
    latency_s: float | None = None
    bytes: int | None = None
    image_id: str | None = None
    reason: str | None = None
    count: int | None = None
    probabilities: Mapping[int, float] | None = None
    expected_count: int | None = None
    brightness: float | None = None
    sharpness: float | None = None
    strap_density: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    image: str | None = None

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.time)

    def to_line(self) -> str:
        """Returns it as one line of JSON, without what is None."""
        return json.dumps({name: value for name, value in vars(self).items() if value is not None})

    @classmethod
    def from_json(cls, plain: Any) -> Self:
        """Returns what `to_line` gave, read back, without the image.

        Raises:
            ValueError: It is something else.
        """
        if not isinstance(plain, dict) or (odd := plain.keys() - {field.name for field in fields(cls)}):
            raise ValueError(f"is no answer: it has {sorted(odd) if isinstance(plain, dict) else type(plain).__name__}")
        known = {name: value for name, value in plain.items() if name != "image"}
        for name, kinds in _KINDS.items():
            value = known.get(name)
            is_missing = value is None and name not in _REQUIRED
            if not is_missing and (not isinstance(value, kinds) or isinstance(value, bool) or not _is_finite(value)):
                raise ValueError(f"has {name}={str(value)[:40]!r}")
        if (probabilities := known.get("probabilities")) is not None:
            known["probabilities"] = {int(count): float(share) for count, share in probabilities.items()}
            shares = known["probabilities"].values()
            if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > SUM_TOLERANCE:
                raise ValueError("has probabilities that are none")
        answer = cls(**known)
        if answer.moment.tzinfo is None:
            raise ValueError(f"has time={answer.time!r} without a time zone")
        if answer.status == 200 and (answer.count is None or answer.probabilities is None):
            raise ValueError("has status=200 and no count")
        return answer


_REQUIRED = ("time", "request_id", "model_version", "status")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("time", "request_id", "model_version", "image_id", "reason"), str),
    **dict.fromkeys(("status", "bytes", "count", "expected_count", "width_px", "height_px"), int),
    **dict.fromkeys(("latency_s", "brightness", "sharpness", "strap_density"), int | float),
    "probabilities": dict,
}


def _is_finite(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) <= MAX_WHOLE
    return not isinstance(value, float) or math.isfinite(value)


def reduced(pixels_HW3: ndarray) -> ndarray:
    """Returns the image at less than twice REFERENCE_PX a side: a phone's photo would take half a second to measure."""
    factor = max(pixels_HW3.shape[:2]) // (2 * REFERENCE_PX)
    return pixels_HW3 if factor < 2 else numpy.asarray(Image.fromarray(pixels_HW3).reduce(factor))


def measure_reduced(pixels_HW3: ndarray, width_px: int, height_px: int) -> dict[str, Any]:
    """Returns IMAGE_FIGURES of an image that was `reduced`; of one too small to measure, its size alone.

    Args:
        width_px: Of the image as it came.
        height_px: Likewise.
    """
    size = {"width_px": width_px, "height_px": height_px}
    if min(pixels_HW3.shape[:2]) < THREAD_PX:
        return size
    measured = measure_image(pixels_HW3)
    return {name: round(getattr(measured, name), DECIMALS) for name in IMAGE_FIGURES[:3]} | size
