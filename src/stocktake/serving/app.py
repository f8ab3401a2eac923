"""The server's routes: SageMaker's /ping and /invocations, /metrics for Prometheus, and a page for people."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI, Request
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from stocktake.images.decoding import UndecodableImage
from stocktake.serving.errors import Refused
from stocktake.serving.observability import FACTS, Figures, LogLine, Observer
from stocktake.serving.openapi import invocation_refusals, invocation_request, refusals
from stocktake.serving.page import add_page
from stocktake.serving.predictor import Answer, Predictor
from stocktake.serving.request_parsing import Arriving, Question, read_question
from stocktake.serving.s3_images import StoredPictures
from stocktake.serving.worker_pool import Pool


class Service:
    """Answers questions with a predictor, so many at a time, and knows whether the model still answers."""

    def __init__(self, predictor: Predictor, alone: Predictor, pool: Pool, stored: StoredPictures | None):
        self.predictor, self.alone, self.pool, self.stored = predictor, alone, pool, stored
        self.has_answered = False
        self._probing = asyncio.Lock()

    async def answer(self, question: Question) -> Answer:
        """Returns what the model says.

        Raises:
            Refused: The picture cannot be read.
        """
        predictor = self.predictor if self.pool.num_inside > 1 else self.alone
        try:
            answer = await self.pool.run(self._predict, predictor, question)
        except (Refused, UndecodableImage):
            raise
        except Exception:
            self.has_answered = False  # /ping asks the model again
            raise
        self.has_answered = True
        return answer

    def _predict(self, predictor: Predictor, question: Question) -> Answer:
        picture = question.picture
        if question.s3_key is not None:
            if self.stored is None:
                raise Refused(
                    *(403, "place-not-allowed", "This server reads no pictures from S3."), "Send the picture as image."
                )
            picture = self.stored.read(question.s3_key)
        return predictor.predict(picture, question.expected_count)

    async def check(self) -> None:
        """Has a small grey picture counted, unless the last question was answered; raises what the model raises."""
        async with self._probing:
            if not self.has_answered:
                file = io.BytesIO()
                Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
                await self.answer(Question(file.getvalue()))


def create_app(
    predictor: Predictor,
    *,
    alone: Predictor | None = None,
    num_workers: int = 1,
    max_waiting: int = 32,
    max_body_mib: float = 6,
    body_timeout_s: float = 30,
    stored: StoredPictures | None = None,
    log_line: LogLine | None = None,
) -> FastAPI:
    """Returns the ASGI app.

    Args:
        predictor: The model; `num_workers` threads ask it at once, each on its share of the cores.
        alone: The same model on all cores, asked where a picture has no others beside it; `None`: `predictor`.
        max_waiting: Requests beyond those that may wait; further ones get 503 with Retry-After.
        max_body_mib: SageMaker sends at most 6 MB.
        body_timeout_s: For a whole body to arrive.
        stored: Reads pictures that a request names by `s3_key`; `None` reads none.
        log_line: Takes the facts of each request; none of its picture.
    """
    max_bytes = int(max_body_mib * 2**20)
    pool, figures = Pool(num_workers, max_waiting), Figures()
    arriving = Arriving(max_bytes, max_bytes * (num_workers + max_waiting), body_timeout_s)
    service = Service(predictor, alone or predictor, pool, stored)

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
    app.add_middleware(Observer, figures=figures, log_line=log_line)

    async def refuse(request: Request, refused: Refused) -> JSONResponse:
        request.scope[FACTS]["reason"] = refused.reason
        figures.refused.labels(refused.reason).inc()
        return refused.response()

    async def refuse_picture(request: Request, error: UndecodableImage) -> JSONResponse:
        return await refuse(request, Refused(422, "picture", error.error, error.cure))

    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        cure = "GET / is a page for people, POST /invocations counts, GET /openapi.json describes it all."
        return await refuse(request, Refused(error.status_code, "route", f"{error.detail}.", cure, error.headers))

    async def fail(request: Request, error: Exception) -> JSONResponse:  # the trace goes to the log
        return Refused(
            500, "failed", "The model failed on this request.", "Try again; see the server's log."
        ).response()

    handlers: dict[type[Exception], Callable] = {
        **{Refused: refuse, UndecodableImage: refuse_picture, HTTPException: refuse_route, Exception: fail}
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)

    @app.head("/ping", include_in_schema=False)  # which load balancers ask
    @app.get("/ping", responses=refusals(503), summary="Whether the model answers")
    async def ping() -> dict[str, str]:
        try:
            await service.check()
        except Exception as error:
            raise Refused(503, "no-answer", "The model does not answer.", "See the server's log.") from error
        return {"status": "ok", "model_version": predictor.version}

    @app.post(
        "/invocations",
        response_model=Answer,
        responses=invocation_refusals(stored is not None),
        openapi_extra=invocation_request(predictor.counts, stored is not None),
        summary="Count the items in a picture",
    )
    async def invocations(request: Request) -> Answer:
        pool.check()  # else a body would be read for nothing
        question = await read_question(request, predictor.counts, arriving)  # holds no place: it may take its time
        with pool.place():
            answer = await service.answer(question)
        request.scope[FACTS]["count"] = answer.count
        figures.counts.labels(answer.count).inc()
        return answer

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(figures.text(), media_type=CONTENT_TYPE_LATEST)

    counts = predictor.counts
    add_page(
        app,
        max_bytes=max_bytes,
        coverage=predictor.calibration.coverage,
        counts=", ".join(map(str, counts)),
        smallest=min(counts),
        largest=max(counts),
        version=predictor.version,
    )
    return app
