"""What the server shows of its work: metrics for Prometheus, one line for each request, and the prediction log."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stocktake.serving.errors import busy
from stocktake.serving.prediction_log import PredictionLog
from stocktake.serving.request_record import RequestRecord

LOG_FIELDS = "stocktake.log_fields"  # where a request's scope keeps those of its line beside the usual
RECORD = "stocktake.record"  # where it keeps what is logged of a count, if it is
LogLine = Callable[[dict[str, Any]], None]


class ServerMetrics:
    """The metrics of one app, apart from those of any other in the same process."""

    def __init__(self, collectors: Sequence[Collector] = ()) -> None:
        """
        Args:
            collectors: Whose metrics are shown beside these.
        """
        self.registry = CollectorRegistry()
        for collector in collectors:
            self.registry.register(collector)
        ProcessCollector(registry=self.registry)
        self.requests = self._metric(Counter, "requests", "Requests answered", ["path", "status"])
        self.seconds = self._metric(Histogram, "request_seconds", "Seconds from a request to its answer", ["path"])
        self.in_flight = self._metric(Gauge, "requests_in_flight", "Requests being answered")
        self.refused = self._metric(Counter, "refused", "Requests refused, by reason", ["reason"])
        self.counts = self._metric(Counter, "counts", "Images answered, by the most likely count", ["count"])
        self.confidence = self._metric(
            Histogram,
            "confidence",
            "Probability of the most likely count",
            buckets=[tenth / 10 for tenth in range(1, 11)],
        )

    def _metric(self, kind: type, name: str, what: str, labels: list[str] | None = None, **options: Any) -> Any:
        return kind(f"stocktake_{name}", what, labels or [], registry=self.registry, **options)

    def text(self) -> bytes:
        """Returns all of them in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)


class Observer:
    """ASGI middleware that measures every request; it sees no body, only how long it is."""

    def __init__(
        self,
        app: ASGIApp,
        server_metrics: ServerMetrics,
        log_line: LogLine | None,
        prediction_log: PredictionLog | None = None,
    ):
        self.app, self.server_metrics, self.log_line = app, server_metrics, log_line
        self.prediction_log = prediction_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        fields = scope[LOG_FIELDS] = {}
        record = scope[RECORD] = RequestRecord.of(scope, self.prediction_log)
        began, num_bytes = time.perf_counter(), 0
        status: int | None = None

        async def counted_receive() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            return message

        async def seen_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if record is not None:
                    message = {**message, "headers": [*message.get("headers", ()), record.header]}
            await send(message)

        with self.server_metrics.in_flight.track_inprogress():
            try:
                return await self.app(scope, counted_receive, seen_send)
            except asyncio.CancelledError:  # the server goes down, and the time for what had begun is over
                if status is not None:
                    raise
                rejected = busy("It is going down.")
                fields["reason"] = rejected.reason
                await rejected.response()(scope, counted_receive, seen_send)
            finally:
                seconds = time.perf_counter() - began
                route = getattr(scope.get("route"), "path", "other")  # not what was typed: labels are kept for ever
                self.server_metrics.requests.labels(route, status or 500).inc()
                self.server_metrics.seconds.labels(route).observe(seconds)
                if record is not None:
                    record.log(status or 500, fields.get("reason"), seconds, num_bytes)
                if self.log_line:
                    self.log_line(
                        {
                            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                            "client": (scope.get("client") or ["-"])[0],
                            "method": scope["method"][:20],
                            "path": quote(scope["path"][:200]),
                            "status": status or 500,
                            "ms": round(1000 * seconds, 1),
                            "bytes": num_bytes,
                            **fields,
                        }
                    )


def plain_line(line: dict[str, Any]) -> str:
    """Returns `<time> <client> POST /invocations 200 12.3 ms 48213 bytes count=3`."""
    first = "{time} {client} {method} {path} {status} {ms} ms {bytes} bytes".format(**line)
    usual = ("time", "client", "method", "path", "status", "ms", "bytes")
    return " ".join([first, *(f"{name}={value}" for name, value in line.items() if name not in usual)])


LINES: dict[str, Callable[[dict[str, Any]], str]] = {"json": json.dumps, "plain": plain_line}
