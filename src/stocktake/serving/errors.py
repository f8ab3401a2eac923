"""Why a request is not answered with a count: one exception, one shape of JSON, and what several modules raise."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from stocktake.images.decoding import UndecodableImage

RETRY_AFTER_S = 1


class RejectedRequest(Exception):
    """A request that cannot be answered; `reason` is a short fixed word that /metrics counts."""

    def __init__(self, status: int, reason: str, error: str, hint: str, headers: Mapping[str, str] | None = None):
        super().__init__(error)
        self.status, self.reason, self.error, self.hint, self.headers = status, reason, error, hint, headers

    def response(self) -> JSONResponse:
        """Returns `{"error", "hint", "reason"}` with the status."""
        content = {"error": self.error, "hint": self.hint, "reason": self.reason}
        return JSONResponse(content, self.status, dict(self.headers or {}))


def busy(why: str) -> RejectedRequest:
    hint = f"Send it again in {RETRY_AFTER_S} s or later."
    return RejectedRequest(503, "busy", f"The server is busy. {why}", hint, {"Retry-After": str(RETRY_AFTER_S)})


def malformed(error: str, wanted: str) -> RejectedRequest:
    return RejectedRequest(400, "malformed", error, f"Send {wanted}.")


def too_large(max_bytes: int) -> RejectedRequest:
    error = f"The body or image is larger than {max_bytes / 2**20:g} MiB."
    hint = "Send a smaller image, for instance 1,024 pixels on its longer side as JPEG."
    return RejectedRequest(413, "too-large", error, hint)


def no_s3_images() -> RejectedRequest:
    error = "This server reads no images from S3."
    return RejectedRequest(403, "location-not-allowed", error, "Send the image itself, in base64, as image.")


def undecodable(image: UndecodableImage) -> RejectedRequest:
    return RejectedRequest(422, image.reason, image.error, image.hint)
