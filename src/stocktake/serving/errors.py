"""Why a request is not answered with a count: one exception, one shape of JSON."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

RETRY_AFTER_S = 1


class Refused(Exception):
    """A request that cannot be answered; `reason` is a short fixed word that /metrics counts."""

    def __init__(self, status: int, reason: str, error: str, cure: str, headers: Mapping[str, str] | None = None):
        super().__init__(error)
        self.status, self.reason, self.error, self.cure, self.headers = status, reason, error, cure, headers

    def response(self) -> JSONResponse:
        """Returns `{"error", "cure", "reason"}` with the status."""
        return JSONResponse(
            {"error": self.error, "cure": self.cure, "reason": self.reason}, self.status, dict(self.headers or {})
        )


def busy(why: str) -> Refused:
    return Refused(
        *(503, "busy", f"The server is busy. {why}", f"Send it again in {RETRY_AFTER_S} s or later."),
        {"Retry-After": str(RETRY_AFTER_S)},
    )
