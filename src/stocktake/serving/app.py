"""The server's routes: SageMaker's /ping and /invocations, /metrics for Prometheus, and a page for people."""

import asyncio
import contextlib
import html
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from string import Template

from fastapi import FastAPI, Request
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from stocktake.images.decoding import UndecodableImage
from stocktake.serving.errors import RejectedRequest, no_s3_images, undecodable
from stocktake.serving.observability import LOG_FIELDS, RECORD, LogLine, Observer, ServerMetrics
from stocktake.serving.openapi import invocation_request, invocation_responses, rejections
from stocktake.serving.prediction_log import PredictionLog
from stocktake.serving.predictor import Predictor
from stocktake.serving.request_parsing import BodyReader, CountRequest, read_count_request
from stocktake.serving.request_record import RequestRecord
from stocktake.serving.response import Prediction
from stocktake.serving.s3_images import S3Images
from stocktake.serving.worker_pool import WorkerPool

PAGE_FILES = {
    "serving/page.html": "text/html",
    "serving/page.css": "text/css",
    "serving/page.js": "text/javascript",
    "serving/page.svg": "image/svg+xml",
    "theme.css": "text/css",  # which the report has, too
}
PAGE_HEADERS = {
    # Only what this server itself sends is fetched or run; images are shown from the browser's own memory.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Service:
    """Counts images with a predictor, so many at a time, and knows whether the model still answers."""

    def __init__(self, predictor: Predictor, on_all_cores: Predictor, pool: WorkerPool, s3_images: S3Images | None):
        self.predictor, self.on_all_cores, self.pool, self.s3_images = predictor, on_all_cores, pool, s3_images
        self.has_predicted = False
        self._probing = asyncio.Lock()

    async def predict(self, count_request: CountRequest, record: RequestRecord | None = None) -> Prediction:
        """
        Args:
            record: Takes what is logged of it, if it is.

        Raises:
            RejectedRequest: The object in S3 cannot be read.
            UndecodableImage: The image cannot.
        """
        predictor = self.predictor if self.pool.num_inside > 1 else self.on_all_cores
        try:
            prediction = await self.pool.run(self._predict, predictor, count_request, record)
        except (RejectedRequest, UndecodableImage):
            raise
        except Exception:
            self.has_predicted = False  # /ping asks the model again
            raise
        self.has_predicted = True
        return prediction

    def _predict(self, predictor: Predictor, count_request: CountRequest, record: RequestRecord | None) -> Prediction:
        image = count_request.image
        if count_request.s3_key is not None:
            if self.s3_images is None:
                raise no_s3_images()
            image = self.s3_images.read(count_request.s3_key)
        if record is None:
            return predictor.predict(image, count_request.expected_count)
        record.asked = replace(count_request, image=image)
        record.prediction = predictor.predict(image, count_request.expected_count, record.see)
        return record.prediction

    async def check(self) -> None:
        """Has a small gray image counted, unless the last request was answered; raises what the model raises."""
        async with self._probing:
            if not self.has_predicted:
                file = io.BytesIO()
                Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
                await self.predict(CountRequest(file.getvalue()))


def create_app(
    predictor: Predictor,
    *,
    on_all_cores: Predictor | None = None,
    num_workers: int = 1,
    max_waiting: int = 32,
    max_body_mib: float = 6,
    body_timeout_s: float = 30,
    s3_images: S3Images | None = None,
    log_line: LogLine | None = None,
    prediction_log: PredictionLog | None = None,
    collectors: Sequence[Collector] = (),
) -> FastAPI:
    """Returns the ASGI app.

    Args:
        predictor: The model; `num_workers` threads ask it at once, each on its share of the cores.
        on_all_cores: The same model, asked where an image has no others beside it; `None`: `predictor`.
        max_waiting: Requests beyond those that may wait; further ones get 503 with Retry-After.
        max_body_mib: SageMaker sends at most 6 MB.
        body_timeout_s: For a whole body to arrive.
        s3_images: Reads images that a request names by `s3_key`; `None` reads none.
        log_line: Takes the fields of each request; none of its image.
        prediction_log: Takes what was answered; whoever made it closes it.
        collectors: Of further metrics, such as a DriftWatch's.
    """
    max_bytes = int(max_body_mib * 2**20)
    pool, server_metrics = WorkerPool(num_workers, max_waiting), ServerMetrics(collectors)
    body_reader = BodyReader(max_bytes, max_bytes * (num_workers + max_waiting), body_timeout_s)
    service = Service(predictor, on_all_cores or predictor, pool, s3_images)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        pool.close()

    # Its pages of documentation would load a script from elsewhere, and a redirection goes where Host says.
    app = FastAPI(
        title="Stocktake",
        version=predictor.version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Observer, server_metrics=server_metrics, log_line=log_line, prediction_log=prediction_log)

    @app.exception_handler(RejectedRequest)
    async def reject(request: Request, rejected: RejectedRequest) -> JSONResponse:
        request.scope[LOG_FIELDS]["reason"] = rejected.reason
        server_metrics.refused.labels(rejected.reason).inc()
        return rejected.response()

    @app.exception_handler(UndecodableImage)
    async def reject_image(request: Request, image: UndecodableImage) -> JSONResponse:
        return await reject(request, undecodable(image))

    @app.exception_handler(HTTPException)
    async def reject_route(request: Request, error: HTTPException) -> JSONResponse:
        hint = "GET / is a page for people, POST /invocations counts, GET /openapi.json describes it all."
        rejected = RejectedRequest(error.status_code, "route", f"{error.detail}.", hint, error.headers)
        return await reject(request, rejected)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:  # the trace goes to the log
        hint = "Try again; see the server's log."
        return RejectedRequest(500, "failed", "The model failed on this request.", hint).response()

    @app.head("/ping", include_in_schema=False)  # which load balancers ask
    @app.get("/ping", responses=rejections(503), summary="Whether the model answers")
    async def ping() -> dict[str, str]:
        try:
            await service.check()
        except Exception as error:
            raise RejectedRequest(503, "no-answer", "The model does not answer.", "See the server's log.") from error
        return {"status": "ok", "model_version": predictor.version}

    @app.post(
        "/invocations",
        response_model=Prediction,
        responses=invocation_responses(s3_images is not None, prediction_log is not None),
        openapi_extra=invocation_request(predictor.counts, s3_images is not None, prediction_log is not None),
        summary="Count the items in an image",
    )
    async def invocations(request: Request) -> Prediction:
        record: RequestRecord | None = request.scope[RECORD]
        if record is not None:
            record.model_version = predictor.version
        pool.check()  # else a body would be read for nothing
        count_request = await read_count_request(
            request, predictor.counts, body_reader
        )  # holds no slot: it may take long
        with pool.slot():
            prediction = await service.predict(count_request, record)
        request.scope[LOG_FIELDS]["count"] = prediction.count
        server_metrics.counts.labels(prediction.count).inc()
        server_metrics.confidence.observe(prediction.probabilities[prediction.count])
        return prediction

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(server_metrics.text(), media_type=CONTENT_TYPE_LATEST)

    _add_page(app, predictor, max_bytes, prediction_log)
    return app


def _add_page(app: FastAPI, predictor: Predictor, max_bytes: int, prediction_log: PredictionLog | None) -> None:
    """Adds page.html at / and what it needs beside it."""
    values = {
        "max_bytes": max_bytes,
        "coverage": predictor.calibration.coverage,
        "counts": ", ".join(map(str, predictor.counts)),
        "smallest": min(predictor.counts),
        "largest": max(predictor.counts),
        "version": predictor.version,
        "kept": _kept(prediction_log),
    }
    for path, media_type in PAGE_FILES.items():
        name, content = path.rpartition("/")[2], files("stocktake").joinpath(path).read_text("utf-8")
        if name == "page.html":
            name, content = "", Template(content).substitute({key: html.escape(str(values[key])) for key in values})
        app.add_route(f"/{name}", _always(Response(content, headers=PAGE_HEADERS, media_type=media_type)))


def _kept(prediction_log: PredictionLog | None) -> str:
    """Returns what becomes of a photo, for whoever sends one."""
    if prediction_log is None:
        return "Photos are counted in memory and not kept."
    if prediction_log.keeps_images:
        return "Photos and what was counted are kept in this server's log."
    return "Photos are not kept; what was counted, and how bright and sharp they were, is logged."


def _always(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        return response

    return respond
