"""The prediction log: what is written and when, what is left out and told, and that an answer never waits for it."""

import base64
import json
import os
import signal
import threading
import time

import numpy
import pytest
from served import gray_image, serving

from stocktake.serving import prediction_log
from stocktake.serving.custom_attributes import ATTRIBUTES_HEADER
from stocktake.serving.logged_answer import LoggedAnswer
from stocktake.serving.prediction_log import DROPPED, PredictionLog, SeenImage
from stocktake.storage import Folder, StorageError

PNG = {"Content-Type": "image/png"}
PIXELS = numpy.full((36, 48, 3), 125, numpy.uint8)


def answer(number: int = 0, **changes) -> LoggedAnswer:
    facts = {
        "time": "2026-03-02T06:00:00+00:00",
        "request_id": f"request-{number}",
        "model_version": "v1",
        "status": 200,
    }
    return LoggedAnswer(**{**facts, "count": 3, "probabilities": {2: 0.25, 3: 0.75}, **changes})


def lines(folder) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]


def test_an_answer_is_a_line_with_what_its_image_is_like(tmp_path):
    log = PredictionLog(Folder(str(tmp_path)))
    log.put(answer(), SeenImage.of(PIXELS))
    log.close()
    (line,) = lines(tmp_path)
    assert (line["brightness"], line["sharpness"], line["strap_density"]) == (125, 0, 0)
    assert (line["width_px"], line["height_px"], line["probabilities"]) == (48, 36, {"2": 0.25, "3": 0.75})
    assert "image" not in line and "reason" not in line
    assert LoggedAnswer.from_json(line).probabilities == {2: 0.25, 3: 0.75}


def test_a_large_photo_has_the_figures_of_a_small_one_and_its_own_size(tmp_path):
    log = PredictionLog(Folder(str(tmp_path)))
    log.put(answer(), SeenImage.of(numpy.repeat(numpy.repeat(PIXELS, 60, 0), 60, 1)))
    log.put(answer(), SeenImage.of(PIXELS[:5, :5]))
    log.close()
    large, tiny = lines(tmp_path)
    assert (large["brightness"], large["width_px"], large["height_px"]) == (125, 2880, 2160)
    assert "brightness" not in tiny and tiny["width_px"] == 5


def test_files_are_followed_by_others_when_they_are_large_or_old(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "FILE_BYTES", 1000)
    log = PredictionLog(Folder(str(tmp_path)), flush_s=0.05)
    for number in range(50):
        log.put(answer(number), None)
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.jsonl")]
    assert len(sizes) > 5 and max(sizes) < 1300
    assert sorted(line["request_id"] for line in lines(tmp_path)) == sorted(f"request-{n}" for n in range(50))
    monkeypatch.setattr(prediction_log, "FILE_S", 0)
    log = PredictionLog(Folder(str(tmp_path / "old")), flush_s=0.05)
    for number in range(2):
        log.put(answer(number), None)
        time.sleep(0.3)
    log.close()
    assert len([*(tmp_path / "old").rglob("*.jsonl")]) == 2


def test_a_line_is_written_within_seconds_and_never_in_half(tmp_path):
    log = PredictionLog(Folder(str(tmp_path)), flush_s=0.05)
    for number in range(20):
        log.put(answer(number), None)
        time.sleep(0.02)
        lines(tmp_path)  # raises on half a line
    deadline = time.monotonic() + 10
    while len(lines(tmp_path)) < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(lines(tmp_path)) == 20
    log.close()


def test_what_finds_no_place_is_counted_and_told(tmp_path, monkeypatch, capsys):
    gate = threading.Event()
    log = PredictionLog(Folder(str(tmp_path)), on_logged=lambda _: gate.wait(30) and None)
    start = time.perf_counter()
    for number in range(prediction_log.MAX_WAITING + 10):
        log.put(answer(number), None)
    assert time.perf_counter() - start < 5, "an answer waited for the log"
    assert 9 <= log.num_dropped <= 10
    gate.set()
    while log.num_logged < prediction_log.MAX_WAITING:
        time.sleep(0.01)
    log.put(answer(999), None)
    log.close()
    assert sum(line.get(DROPPED, 0) for line in lines(tmp_path)) == log.num_dropped
    assert capsys.readouterr().err.count("faster than they are logged") == 1


def test_a_store_that_fails_loses_nothing_when_it_is_back(tmp_path, monkeypatch, capsys):
    fails, write = [True], Folder.write

    def sometimes(self, key, content):
        if fails[0]:
            raise StorageError("no such bucket")
        write(self, key, content)

    monkeypatch.setattr(Folder, "write", sometimes)
    log = PredictionLog(Folder(str(tmp_path)), flush_s=0.05)
    log.put(answer(1), None)
    time.sleep(0.4)
    fails[0] = False
    log.put(answer(2), None)
    log.close()
    assert [line["request_id"] for line in lines(tmp_path)] == ["request-1", "request-2"]
    assert capsys.readouterr().err.count("no such bucket") == 1


def test_what_a_full_disk_took_is_not_counted_as_logged(tmp_path, monkeypatch):
    log = PredictionLog(Folder(str(tmp_path)), flush_s=0.05)

    def full(self, key, content):
        raise StorageError("no space left on device")

    monkeypatch.setattr(Folder, "write", full)
    for number in range(3):
        log.put(answer(number), None)
    log.close()
    assert (log.num_logged, log.num_dropped) == (0, 3)


def test_an_image_that_cannot_be_measured_stops_nothing(tmp_path, capsys):
    log = PredictionLog(Folder(str(tmp_path)))
    log.put(answer(1), SeenImage(PIXELS.astype(float), 48, 36))
    log.put(answer(2), None)
    log.close()
    assert (log.num_logged, log.num_dropped) == (1, 1)
    assert [line.get("request_id") for line in lines(tmp_path)] == [None, "request-2"]
    assert "could not be logged (ValueError" in capsys.readouterr().err


def test_a_share_is_chosen_by_the_id_alone(tmp_path):
    logs = [PredictionLog(Folder(str(tmp_path)), share) for share in (0.0, 0.25, 0.25, 1.0)]
    chosen = [[log.wants(f"request-{number}") for number in range(2000)] for log in logs]
    assert [sum(own) for own in chosen[::3]] == [0, 2000]
    assert chosen[1] == chosen[2] and 420 < sum(chosen[1]) < 580
    for log in logs:
        log.close()


def test_the_server_logs_counts_and_refusals_with_the_client_s_id(model_folder, tmp_path):
    with serving(
        model_folder, tmp_path / "log", f"prediction_log={tmp_path / 'answers'}", "prediction_log_images=true"
    ) as served:
        asked = {
            "content": gray_image(125),
            "headers": PNG | {"X-Request-Id": "shelf-7"},
            "params": {"expected_count": 2, "image_id": "00004"},
        }
        first = served.client.post("/invocations", **asked)
        odd = PNG | {"X-Request-Id": "no\tid", ATTRIBUTES_HEADER: "image_id=shelf%207%2C%20top"}
        second = served.client.post("/invocations", content=gray_image(60), headers=odd)
        third = served.client.post("/invocations", content=b"hello", headers=PNG)
        assert "stocktake_watched_answers" in served.client.get("/metrics").text
        assert "x-request-id" not in served.client.get("/ping").headers
        code, printed = served.stop(signal.SIGTERM)
    assert code == 0 and json.loads(printed[-1]).items() >= {"logged": 3, "not_logged": 0, "counted": 2}.items()
    counted, other, refused = lines(tmp_path / "answers")
    assert first.headers["x-request-id"] == counted["request_id"] == "shelf-7"
    assert second.headers["x-request-id"] == other["request_id"] and len(other["request_id"]) == 32
    assert (counted["count"], counted["expected_count"], counted["model_version"]) == (3, 2, "brightness-1")
    assert list(counted["probabilities"].values()) == pytest.approx([*first.json()["probabilities"].values()], abs=1e-5)
    assert (counted["image_id"], other["image_id"]) == ("00004", "shelf 7, top")
    assert base64.b64decode(counted["image"]) == gray_image(125)
    assert 0 < counted["latency_s"] < 60 and counted["bytes"] == len(gray_image(125))
    assert (refused["status"], refused["reason"], refused["request_id"]) == (
        422,
        "image-undecodable",
        third.headers["x-request-id"],
    )
    assert not {"image", "image_id", "count"} & refused.keys()


def test_a_folder_that_cannot_be_written_is_refused_before_it_listens(model_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(AssertionError, match="cannot be a folder"),
        serving(model_folder, tmp_path / "log", f"prediction_log={tmp_path / 'file'}"),
    ):
        pass


ODD_LINES = {
    "a list": [],
    "another key": {"a": 1},
    "no time": {"request_id": "a", "model_version": "v", "status": 200},
    "a time without a zone": {"time": "2026-03-02T06:00:00"},
    "a count that is text": {"count": "3"},
    "no count": {"count": None},
    "a yes": {"status": True},
    "NaN": {"brightness": float("nan")},
    "more than all": {"probabilities": {"3": 1.5}},
}


@pytest.mark.parametrize("kind", ODD_LINES)
def test_a_line_that_is_none_is_refused(kind):
    change = ODD_LINES[kind]
    plain = json.loads(answer().to_line())
    plain = change if isinstance(change, list) or kind == "no time" else {**plain, **change}
    with pytest.raises(ValueError, match=r"is no answer|has "):
        LoggedAnswer.from_json(plain)


def test_a_bucket_is_written_as_a_folder_is(s3, tmp_path):
    os.makedirs(tmp_path / "buckets/logs")
    log = PredictionLog(Folder("s3://logs/answers"))
    log.put(answer(1), None)
    log.close()
    (key,) = (facts["path"] for facts in Folder("s3://logs/answers").objects())
    assert json.loads(Folder("s3://logs/answers").read(key))["request_id"] == "request-1"
