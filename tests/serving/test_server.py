"""scripts/serve.py over a real socket: what SageMaker, curl, Prometheus and a shell see of it."""

import base64
import json
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest
from served import COUNTS, REPOSITORY, by_hand, picture, serving

PNG, JPEG = {"Content-Type": "image/png"}, {"Content-Type": "image/jpeg"}
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def bodies(content: bytes, expected: int | None) -> dict[str, dict]:
    """Every way to send one picture, and to say what the record says."""
    encoded = base64.b64encode(content).decode()
    query = {} if expected is None else {"expected_count": expected}
    header = {} if expected is None else {ATTRIBUTES: f"trace=abc,expected_count={expected}"}
    return {
        "raw": {"content": content, "headers": PNG, "params": query},
        "octets": {"content": content, "headers": {"Content-Type": "application/x-image", **header}},
        "json": {"json": {"image": encoded, "expected_count": expected}},
        "form": {"files": {"file": ("bin.png", content, "image/png")}, "data": query},
    }


@pytest.mark.parametrize("expected", [None, 2, 3])
@pytest.mark.parametrize("brightness", [60, 125])
def test_every_kind_of_body_gets_the_answer_worked_out_by_hand(server, brightness, expected):
    probabilities = by_hand(brightness)
    for kind, body in bodies(picture(brightness), expected).items():
        response = server.client.post("/invocations", **body)
        answer = response.json()
        assert response.status_code == 200, (kind, answer)
        assert answer["count"] == COUNTS[probabilities.argmax()]
        assert list(answer["probabilities"].values()) == pytest.approx(probabilities, abs=1e-5)
        assert answer["conformal_set"] == [c for c, p in zip(COUNTS, probabilities, strict=True) if p >= 0.15]
        if expected is None:
            assert answer["mismatch_score"] is None
        else:
            assert answer["mismatch_score"] == pytest.approx(1 - probabilities[expected - 1], abs=1e-5)
            assert f"record of {expected}" in answer["verdict"]
        assert answer["model_version"] == "brightness-1"


ENCODED = base64.b64encode(picture()).decode()
REFUSED = {
    "no body": (400, "empty", {"headers": PNG}),
    "no media type": (415, "media-type", {"content": b"x"}),
    "curl's own media type": (415, "media-type", {"data": {"a": "b"}}),
    "no picture": (422, "picture", {"content": b"hello", "headers": PNG}),
    "cut off": (422, "picture", {"content": picture(kind="JPEG", size=(200, 200))[:500], "headers": JPEG}),
    "a picture of nothing": (422, "picture", {"json": {"image": ""}}),
    "a count that is no number": (400, "expected-count", {"params": {"expected_count": "two"}}),
    "an empty count": (400, "expected-count", {"params": {"expected_count": ""}}),
    "a count that was never learnt": (400, "expected-count", {"params": {"expected_count": "9"}}),
    "two counts": (
        400,
        "expected-count",
        {"params": {"expected_count": "2"}, "headers": {ATTRIBUTES: "expected_count=3"}},
    ),
    "half a count": (400, "expected-count", {"json": {"image": ENCODED, "expected_count": 2.5}}),
    "a yes": (400, "expected-count", {"json": {"image": ENCODED, "expected_count": True}}),
    "a count of 5,000 digits": (400, "malformed", {"content": b'{"image":"","expected_count":' + b"1" * 5000 + b"}"}),
    "broken JSON": (400, "malformed", {"content": b'{"image": '}),
    "deep JSON": (400, "malformed", {"content": b"[" * 100_000}),
    "a list": (400, "malformed", {"json": [1]}),
    "a mistyped key": (400, "malformed", {"json": {"image": ENCODED, "expected": 3}}),
    "a picture that is a number": (400, "malformed", {"json": {"image": 3}}),
    "no base64": (400, "malformed", {"json": {"image": "héllo"}}),
    "an address": (400, "malformed", {"json": {"image_url": "http://127.0.0.1:1/a.jpg"}}),
    "S3 that is not allowed": (403, "place-not-allowed", {"json": {"s3_key": "s3://bucket/a.jpg"}}),
    "a form without a file": (400, "malformed", {"files": {"other": ("a.png", picture())}}),
    "a form with a text for a file": (400, "malformed", {"files": {"file": (None, "hello")}}),
    "a form with two files": (400, "malformed", {"files": [("file", ("a", b"a")), ("file", ("b", b"b"))]}),
    "a form without a boundary": (
        400,
        "malformed",
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused_with_a_reason_and_a_cure(server, name):
    status, reason, body = REFUSED[name]
    if reason == "expected-count" and "json" not in body:
        body = {"content": picture(), **body, "headers": PNG | body.get("headers", {})}
    if reason == "malformed" and "headers" not in body and "content" in body:
        body = {**body, "headers": {"Content-Type": "application/json"}}
    response = server.client.post("/invocations", **body)
    answer = response.json()
    assert (response.status_code, answer["reason"]) == (status, reason), answer
    assert set(answer) == {"error", "cure", "reason"} and answer["error"] and answer["cure"]


def test_other_routes_and_methods_are_refused_in_the_same_words(server):
    missing, wrong = server.client.get("/nothing"), server.client.get("/invocations")
    assert (missing.status_code, wrong.status_code, wrong.headers["allow"]) == (404, 405, "POST")
    assert missing.json()["reason"] == wrong.json()["reason"] == "route"


def test_a_picture_as_large_as_allowed_is_read_and_a_byte_more_is_not(server):
    content = picture()
    padded = content + bytes(6 * 2**20 - len(content))
    assert server.client.post("/invocations", content=padded, headers=PNG).status_code == 200
    for body in (padded + b"x", iter([padded, b"x"])):  # announced, and in chunks
        response = server.client.post("/invocations", content=body, headers=PNG)
        assert (response.status_code, response.json()["reason"]) == (413, "too-large")
    form = server.client.post("/invocations", files={"file": ("a.png", padded)})
    assert form.status_code == 413


def test_a_body_without_end_is_answered_before_it_ends_and_is_not_kept(server):
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
        for _ in range(7):
            client.sendall(chunk)
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert process.memory_info().rss - before < 30 * 2**20


def test_sagemakers_ping_the_description_and_the_figures(server):
    assert server.client.get("/ping").json() == {"status": "ok", "model_version": "brightness-1"}
    described = server.client.get("/openapi.json").json()["paths"]["/invocations"]["post"]
    assert {"200", "400", "408", "413", "415", "422", "500", "503"} == set(described["responses"])
    assert "s3_key" not in json.dumps(described), "it is not allowed here"

    def figure(name: str) -> float:
        found = re.search(rf"^stocktake_{re.escape(name)} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    names = (
        'requests_total{path="/invocations",status="200"}',
        'requests_total{path="/invocations",status="422"}',
        'refused_total{reason="picture"}',
        'counts_total{count="3"}',
        'request_seconds_count{path="/invocations"}',
        'requests_total{path="other",status="404"}',
    )
    before = [figure(name) for name in names]
    server.client.post("/invocations", content=picture(125), headers=PNG)
    server.client.post("/invocations", content=b"x", headers=PNG)
    server.client.get("/some/where")
    assert [figure(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 1, 1, 2, 1]
    assert figure("requests_in_flight") == 1  # the one that asks


def test_the_log_has_one_line_for_each_request_and_nothing_of_the_picture(model_folder, tmp_path):
    with serving(model_folder, tmp_path / "log", "log=json") as served:
        served.client.post("/invocations?expected_count=2", content=picture(125), headers=PNG)
        served.client.get("/forged%0A2026 line")
        assert served.stop()[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/invocations", 200),
        ("GET", "/forged%0A2026%20line", 404),
    ]
    assert lines[0]["bytes"] == len(picture(125)) and lines[0]["count"] == 3
    assert set(lines[0]) == {"time", "client", "method", "path", "status", "ms", "bytes", "count"}


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_request_that_has_begun_is_answered_before_the_server_goes_down(model_folder, tmp_path, by):
    content = picture()
    with serving(model_folder, tmp_path / "log", "log=plain") as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
            head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: {len(content)}\r\n\r\n"
            client.sendall(head.encode() + content[:-1])
            while served.client.get("/metrics").text.count("requests_in_flight 2.0") == 0:
                time.sleep(0.01)
            served.process.send_signal(by)
            time.sleep(0.5)
            client.sendall(content[-1:])
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        code, printed = served.stop(signal.SIGCONT)
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"count":3' in answer
    assert code == 0 and json.loads(printed[-1])["counted"] == 1
    assert "Traceback" not in (tmp_path / "log").read_text()


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "importtime", str(REPOSITORY / "scripts" / "serve.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_cannot_be_served_is_said(model_folder, tmp_path, server):
    for words, said in (
        (["serve"], "/opt/ml/model/model.json cannot be read"),
        ([f"model={model_folder}", f"port={server.port}"], f"port={server.port}: Address already in use. Type port=0"),
        ([f"model={model_folder}", "log=loud"], "log='loud' is none of json, plain, null"),
        ([f"model={model_folder}", "allowed_prefixes=[s3://b/bins]"], "'s3://b/bins' needs the form s3://bucket/"),
    ):
        done = run(*words)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
        assert not re.search(r"\| +(torch|boto3|pytorch_lightning)$", done.stderr, re.MULTILINE)
        assert re.search(r"\| +stocktake.serving.server$", done.stderr, re.MULTILINE)
    assert "curl --form file=@bin.jpg" in run("--help").stdout


def test_pictures_come_from_s3_where_they_are_allowed(model_folder, s3, tmp_path):
    folder = tmp_path / "buckets" / "bins"
    for name, content in {
        "open/a.png": picture(125),
        "open/large.png": bytes(7 * 2**20),
        "open-not/a.png": b"",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    asked = {
        "s3://bins/open/a.png": 200,
        "s3://bins/open/b.png": 404,
        "s3://bins/open/large.png": 413,
        "s3://bins/open-not/a.png": 403,
        "s3://bins/open/../open-not/a.png": 403,
        "s3://bins/open/": 403,
        "s3://elsewhere/open/a.png": 403,
        "file:///etc/passwd": 403,
        "s3://closed/a.png": 424,
    }
    words = ("allowed_prefixes=[s3://bins/open/,s3://closed/]", "storage.max_retries=0")
    with serving(model_folder, tmp_path / "log", *words) as served:
        found = {key: served.client.post("/invocations", json={"s3_key": key}) for key in asked}
        assert "s3_key" in served.client.get("/openapi.json").text
        s3.process.terminate()
        s3.process.wait()
        late = served.client.post("/invocations", json={"s3_key": "s3://bins/open/a.png"})
    # A bucket that is not there looks to rclone like an object that is not there.
    assert {key: response.status_code for key, response in found.items()} == asked | {"s3://closed/a.png": 404}
    assert found["s3://bins/open/a.png"].json()["count"] == 3
    assert (late.status_code, late.json()["reason"]) == (424, "storage")
    assert httpx.URL(s3.url).netloc.decode() not in late.text
