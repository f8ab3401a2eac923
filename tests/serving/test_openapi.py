"""The server does what its OpenAPI says: Schemathesis asks everything that it admits, over a real socket."""

import base64

import hypothesis
import hypothesis.errors
import pytest
import schemathesis
from hypothesis import strategies
from served import gray_image, listening

from stocktake.serving.app import create_app
from stocktake.serving.prediction_log import PredictionLog
from stocktake.storage import Folder

pytestmark = pytest.mark.integration  # a whole server

IMAGES = strategies.sampled_from([gray_image(value, kind) for value in (25, 125, 225) for kind in ("JPEG", "PNG")])
# What an image is cannot be said in a schema.
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "application/x-image", "application/octet-stream")
for media_type in MEDIA_TYPES:
    schemathesis.openapi.media_type(media_type, IMAGES)
schemathesis.openapi.format("byte", IMAGES.map(lambda content: base64.b64encode(content).decode()))


def ask_everything(server, num_examples: int) -> set[str]:
    """Sends what the description admits and what it does not; returns the media types that /invocations was sent."""
    described = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked = set()
    settings = hypothesis.settings(
        max_examples=num_examples,
        deadline=None,  # the machine may be busy
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    any_one = hypothesis.settings(settings, phases=[hypothesis.Phase.generate])  # the simplest one would take long
    for found in described.get_all_operations():
        operation = found.ok()  # pyright: ignore[reportAttributeAccessIssue]  # an Err has one, too: it raises
        for mode in schemathesis.GenerationMode:
            try:
                strategy = operation.as_strategy(generation_mode=mode)
                hypothesis.find(strategy, lambda _: True, settings=any_one)
            except hypothesis.errors.Unsatisfiable:
                continue  # a route without any input has no wrong one

            @settings
            @hypothesis.given(strategy)
            def answers(case):
                asked.add((case.method, case.path, case.media_type))
                case.call_and_validate()

            answers()
    assert {path for _, path, _ in asked} == {"/ping", "/invocations", "/metrics"}
    return {media_type for _, path, media_type in asked if path == "/invocations"}


def test_every_answer_is_as_described(server):
    assert len(ask_everything(server, 8)) > 2


@pytest.mark.slow
def test_every_answer_is_as_described_often(server):
    assert {*MEDIA_TYPES, "application/json", "multipart/form-data"} <= ask_everything(server, 300)


def test_the_id_of_an_answer_is_described_where_answers_are_logged(predictor, tmp_path):
    log = PredictionLog(Folder(str(tmp_path)))
    with listening(create_app(predictor, prediction_log=log)) as client:
        described = client.get("/openapi.json").json()["paths"]["/invocations"]["post"]
        for content in (gray_image(), b"no image"):
            answer = client.post("/invocations", content=content, headers={"Content-Type": "image/png"})
            assert answer.headers["X-Request-Id"]
            assert "X-Request-Id" in described["responses"][str(answer.status_code)]["headers"]
    log.close()
    assert described["responses"]["200"]["content"], "its schema stays"
    assert "Retry-After" in described["responses"]["503"]["headers"]
    assert {"X-Request-Id", "image_id"} <= {parameter["name"] for parameter in described["parameters"]}
    assert "X-Request-Id" not in str(create_app(predictor).openapi()), "which nobody would answer"
