"""What a request to /invocations leaves for the prediction log while it is answered."""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from numpy import ndarray
from starlette.datastructures import Headers
from starlette.types import Scope

from stocktake.serving.logged_answer import DECIMALS, LoggedAnswer
from stocktake.serving.prediction_log import PredictionLog, SeenImage
from stocktake.serving.request_parsing import CountRequest
from stocktake.serving.response import Prediction

LOGGED_PATH = "/invocations"
REQUEST_ID = "X-Request-Id"  # answered with every count that is logged, so that its true count can be told later
ID_HEADERS = (REQUEST_ID, "X-Amzn-SageMaker-Inference-Id")  # the client's own id, where it sends one
CLIENT_ID = re.compile(r"[\w.:/=+@-]{1,128}", re.ASCII)


@dataclass
class RequestRecord:
    """One request that is logged: filled as it goes on, and handed to the log once it is answered.

    Attributes:
        model_version: Of the model that is asked, known of refused requests, too.
    """

    log_to: PredictionLog
    request_id: str
    model_version: str = ""
    prediction: Prediction | None = None
    asked: CountRequest | None = None
    image: SeenImage | None = None

    @classmethod
    def of(cls, scope: Scope, prediction_log: PredictionLog | None) -> Self | None:
        """Returns the record of a request, `None` where it is not logged."""
        if prediction_log is None or (scope["path"], scope["method"]) != (LOGGED_PATH, "POST"):
            return None
        headers = Headers(scope=scope)
        sent = [value for name in ID_HEADERS if CLIENT_ID.fullmatch(value := headers.get(name, ""))]
        request_id = sent[0] if sent else uuid.uuid4().hex
        return cls(prediction_log, request_id) if prediction_log.wants(request_id) else None

    @property
    def header(self) -> tuple[bytes, bytes]:
        return REQUEST_ID.lower().encode(), self.request_id.encode()

    def see(self, pixels_HW3: ndarray) -> None:
        """Keeps of the decoded image what is measured later."""
        self.image = SeenImage.of(pixels_HW3)

    def log(self, status: int, reason: str | None, seconds: float, num_bytes: int) -> None:
        """Hands over what was answered; at once, and without fail."""
        asked, prediction = self.asked or CountRequest(), self.prediction
        if self.image is not None and self.log_to.keeps_images:
            self.image.content = asked.image
        self.log_to.put(
            LoggedAnswer(
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                request_id=self.request_id,
                model_version=self.model_version,
                status=status,
                latency_s=round(seconds, 5),
                bytes=num_bytes,
                image_id=asked.image_id,
                reason=reason,
                count=None if prediction is None else prediction.count,
                probabilities=None
                if prediction is None
                else {count: round(share, DECIMALS) for count, share in prediction.probabilities.items()},
                expected_count=asked.expected_count,
            ),
            self.image,
        )
