"""create_app over a model that is slow, busy, or fails: who waits, who is turned away, and what /ping says."""

import concurrent.futures
import logging
import threading
import time

import pytest
from served import gray_image, listening

from stocktake.serving.app import create_app
from stocktake.serving.prediction_log import PredictionLog
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder

PNG = {"Content-Type": "image/png"}


class Held(Predictor):
    """A predictor that answers when it is let, or fails when it is to."""

    def __init__(self, predictor):
        self.predictor, self.counts, self.version = predictor, predictor.counts, predictor.version
        self.calibration = predictor.calibration
        self.gate, self.num_at_once, self.most_at_once = threading.Event(), 0, 0
        self.error: Exception | None = None

    def predict(self, content, expected_count=None, on_pixels=None):
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        self.gate.wait(30)
        self.num_at_once -= 1
        if self.error:
            raise self.error
        return self.predictor.predict(content, expected_count, on_pixels)


@pytest.fixture
def held(predictor):
    return Held(predictor)


@pytest.mark.parametrize(
    ("keeps_images", "told"),
    [
        (None, "Photos are counted in memory and not kept."),
        (False, "Photos are not kept; what was counted"),
        (True, "Photos and what was counted are kept in this server&#x27;s log."),
    ],
)
def test_the_page_says_what_becomes_of_a_photo(predictor, tmp_path, keeps_images, told):
    log = None if keeps_images is None else PredictionLog(Folder(str(tmp_path)), keeps_images=keeps_images)
    with listening(create_app(predictor, prediction_log=log)) as client:
        assert told in client.get("/").text
    if log:
        log.close()


def test_a_full_queue_turns_away_and_the_event_loop_stays_free(held):
    app = create_app(held, num_workers=2, max_waiting=3)

    def post(client):
        return client.post("/invocations", content=gray_image(125), headers=PNG)

    with listening(app) as client, concurrent.futures.ThreadPoolExecutor(5) as senders:
        asked = [senders.submit(post, client) for _ in range(5)]
        while "requests_in_flight 6.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        refused = post(client)
        assert (refused.status_code, refused.headers["retry-after"], refused.json()["reason"]) == (503, "1", "busy")
        assert client.get("/openapi.json").status_code == 200
        held.gate.set()
        assert [request.result().json()["count"] for request in asked] == [3] * 5
        assert held.most_at_once == 2
        assert post(client).status_code == 200


def test_a_image_without_others_is_counted_on_all_cores(predictor):
    one_core, all_cores = Held(predictor), Held(predictor)
    with listening(create_app(one_core, on_all_cores=all_cores, num_workers=2)) as client:
        with concurrent.futures.ThreadPoolExecutor(2) as senders:
            asked = [
                senders.submit(client.post, "/invocations", content=gray_image(125), headers=PNG) for _ in range(2)
            ]
            while one_core.num_at_once + all_cores.num_at_once < 2:
                time.sleep(0.01)
            assert (one_core.num_at_once, all_cores.num_at_once) == (1, 1)
            one_core.gate.set()
            all_cores.gate.set()
            assert [request.result().json()["count"] for request in asked] == [3, 3]
        one_core.error = RuntimeError("not to be asked")
        assert client.post("/invocations", content=gray_image(125), headers=PNG).status_code == 200


def test_ping_is_well_only_while_the_model_answers(held, caplog):
    held.gate.set()
    held.error = RuntimeError("secret of the model")
    with listening(create_app(held)) as client, caplog.at_level(logging.CRITICAL):
        assert (client.get("/ping").status_code, client.get("/ping").json()["reason"]) == (503, "no-answer")
        held.error = None
        assert client.get("/ping").status_code == 200
        held.error = RuntimeError("secret of the model")
        assert client.get("/ping").status_code == 200, "nothing has failed since"
        failed = client.post("/invocations", content=gray_image(), headers=PNG)
        assert failed.status_code == 500 and "secret" not in failed.text
        assert client.get("/ping").status_code == 503


def test_a_body_that_does_not_arrive_gives_its_place_back(held):
    held.gate.set()
    app = create_app(held, max_waiting=0, body_timeout_s=0.2)

    def slowly():
        yield gray_image()[:10]
        time.sleep(0.6)
        yield gray_image()[10:]

    with listening(app) as client:
        late = client.post("/invocations", content=slowly(), headers=PNG)
        assert (late.status_code, late.json()["reason"]) == (408, "too-slow")
        assert client.post("/invocations", content=gray_image(), headers=PNG).status_code == 200
