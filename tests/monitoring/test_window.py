"""Reading a log: ours and SageMaker's alike, and nothing that is left out is left out in silence."""

import base64
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from monitored import photo, write_log
from PIL import Image
from served import gray_image

from stocktake.monitoring.feedback import match, read_feedback
from stocktake.monitoring.monitored_model import MonitoredModel
from stocktake.monitoring.window import Window, read_window
from stocktake.serving.logged_answer import LoggedAnswer
from stocktake.serving.model_folder import ModelFolderError
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder, StorageOptions


@pytest.fixture(scope="module")
def opened(model):
    return MonitoredModel.open(Folder(str(model)))


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def captured(model, image: bytes, as_json: bool = False, **event) -> dict:
    """A line as AWS documents it, of a model that was asked over SageMaker."""
    prediction = Predictor.open(str(model), num_threads=1).predict(image)
    encoded = base64.b64encode(image).decode()
    asked = {"data": encoded, "encoding": "BASE64", "observedContentType": "image/png"}
    if as_json:
        content = json.dumps({"image": encoded, "expected_count": 4})
        asked = {"data": content, "encoding": "JSON", "observedContentType": "application/json"}
    answered = {"data": json.dumps(vars(prediction)), "encoding": "JSON", "observedContentType": "application/json"}
    return {
        "captureData": {
            "endpointInput": {**asked, "mode": "INPUT"},
            "endpointOutput": {**answered, "mode": "OUTPUT"},
        },
        "eventMetadata": {"eventId": "d1f4", "inferenceTime": "2026-03-02T06:00:00Z", **event},
        "eventVersion": "0",
    }


def test_probabilities_go_by_their_count_and_not_by_their_order():
    times = {"time": "2026-11-29T00:00:00+00:00", "request_id": "a", "model_version": "m", "status": 200, "count": 1}
    answer = LoggedAnswer.from_json({**times, "probabilities": {"3": 0.1, "1": 0.7, "2": 0.2}})
    window = Window([1, 2, 3], [answer], 1, 1, [], 0, {})
    assert window.probabilities_NK.tolist() == [[0.7, 0.2, 0.1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"brightness": 10**400},
        {"bytes": 10**30},
        {"probabilities": dict.fromkeys("12345", 0)},
        {"probabilities": dict.fromkeys("12345", 1)},
        {"dropped": -5},
        {"dropped": 10**4000},
        {"dropped": "many"},
    ],
    ids=str,
)
def test_a_line_that_no_server_writes_is_damaged_and_named(opened, answers, tmp_path, changes):
    line = json.loads(answers[0].to_line()) | changes
    (tmp_path / "a.jsonl").write_text(answers[1].to_line() + "\n" + json.dumps(line) + "\n")
    window = read_window(str(tmp_path), StorageOptions(), opened)
    assert (len(window.requests), len(window.damaged), window.num_dropped) == (1, 1, 0)
    assert window.damaged[0].startswith(f"{tmp_path.name}/a.jsonl:2 ") or "a.jsonl:2 " in window.damaged[0]


def test_all_of_a_log_is_read_and_what_is_left_out_is_counted(opened, answers, tmp_path):
    other = {**json.loads(answers[0].to_line()), "model_version": "older"}
    counts = {**json.loads(answers[0].to_line()), "probabilities": {"1": 1.0}}
    refused = {
        "time": answers[9].time,
        "request_id": "r",
        "model_version": opened.version,
        "status": 422,
        "reason": "empty",
    }
    more = [
        '{"half',
        "[]",
        "",
        json.dumps(other),
        json.dumps(counts),
        json.dumps(refused),
        '{"dropped": 5}',
        b"\xff".decode("latin1"),
    ]
    folder = write_log(tmp_path, answers[:10], *more)
    (folder / "notes.txt").write_text("no line")
    window = read_window(str(folder), StorageOptions(), opened)
    assert (len(window.requests), len(window.answers), window.num_dropped) == (11, 10, 5)
    assert window.other_models == {"older": 1}
    assert [problem.rpartition(".jsonl:")[2].split()[0] for problem in window.damaged] == ["11", "12", "15", "18"]
    assert window.num_lines == 17 and window.num_files == 1
    assert window.figures["brightness"].tolist() == [answer.brightness for answer in answers[:10]]
    file = next(folder.rglob("*.jsonl"))
    assert len(read_window(str(file), StorageOptions(), opened).requests) == 11


def test_a_window_begins_where_it_is_told(opened, answers, tmp_path):
    folder = write_log(tmp_path, answers[:100])
    moment = answers[40].moment
    window = read_window(str(folder), StorageOptions(), opened, moment, moment + timedelta(seconds=10))
    assert [request.request_id for request in window.requests] == [one.request_id for one in answers[40:50]]
    later = datetime.now(UTC) + timedelta(days=1)
    assert read_window(str(folder), StorageOptions(), opened, later).num_files == 0, "an old file was read"


@pytest.mark.parametrize("as_json", [False, True], ids=["raw", "json"])
def test_what_sagemaker_captured_is_read_as_our_own_log(model, opened, answers, tmp_path, as_json):
    lines = [captured(model, png(photo(number)), as_json, inferenceId=f"id-{number}") for number in range(7500, 7503)]
    (tmp_path / "endpoint/variant/2026/03/02/06").mkdir(parents=True)
    path = tmp_path / "endpoint/variant/2026/03/02/06/00-00-000-d1f4.jsonl"
    path.write_text("\n".join(map(json.dumps, [*lines, {"captureData": {}}])))
    window = read_window(str(tmp_path), StorageOptions(), opened)
    assert [one.request_id for one in window.answers] == ["id-7500", "id-7501", "id-7502"]
    for found, own in zip(window.answers, answers, strict=False):
        assert (found.count, found.brightness, found.sharpness, found.width_px) == (
            own.count,
            own.brightness,
            own.sharpness,
            own.width_px,
        )
        assert found.probabilities == pytest.approx(own.probabilities, abs=1e-5)
        assert found.expected_count == (4 if as_json else None)
        assert found.latency_s and found.status == 200
    assert len(window.damaged) == 1


def test_a_capture_without_its_input_has_no_image_figures(model, opened, tmp_path):
    line = captured(model, gray_image())
    del line["captureData"]["endpointInput"]
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    (answer,) = read_window(str(tmp_path), StorageOptions(), opened).answers
    assert (answer.request_id, answer.brightness, answer.width_px) == ("d1f4", None, None)


def test_a_captured_answer_is_known_by_the_image_that_its_request_names(model, opened, tmp_path):
    line = captured(model, gray_image(), as_json=True)
    line["captureData"]["endpointInput"]["data"] = json.dumps({"s3_key": "s3://bins/shelf/00004.jpg"})
    other = captured(model, gray_image(), customAttributes=["trace=a,image_id=00005"])
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(other)}\n")
    window = read_window(str(tmp_path), StorageOptions(), opened)
    assert [answer.image_id for answer in window.answers] == ["00004", "00005"]
    matched = match(read_feedback(b"image_id,count\n00004,3\n", "counted.csv"), window)
    assert matched.true_counts_F.tolist() == [3]


def test_a_folder_without_lines_is_refused(opened, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="holds no file of JSON lines"):
        read_window(str(tmp_path), StorageOptions(), opened)


def test_an_older_model_is_refused_with_what_to_type(model, tmp_path):
    facts = json.loads((model / "model.json").read_text())
    del facts["baseline"]
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ModelFolderError, match=r"before models had a baseline\.json.*export\.py checkpoint="):
        MonitoredModel.open(Folder(str(tmp_path)))
    (tmp_path / "model.json").write_bytes((model / "model.json").read_bytes())
    with pytest.raises(ModelFolderError, match=r"baseline\.json is missing"):
        MonitoredModel.open(Folder(str(tmp_path)))
    with pytest.raises(ModelFolderError, match="no whole model"):
        MonitoredModel.open(Folder(str(tmp_path / "nowhere")))
