"""scripts/serve.py over a real socket: what SageMaker, curl, Prometheus and a shell see of it."""

import base64
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from imported import LIST_IMPORTS, imported_modules
from served import COUNTS, REPOSITORY, by_hand, gray_image, serving

from stocktake.serving.server import open_predictors, serve
from stocktake.storage import StorageOptions

pytestmark = pytest.mark.integration  # a whole server

PNG, JPEG = {"Content-Type": "image/png"}, {"Content-Type": "image/jpeg"}
HEAD = "POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def bodies(content: bytes, expected: int | None) -> dict[str, dict]:
    """Every way to send one image, and to say what the record says."""
    encoded = base64.b64encode(content).decode()
    query = {} if expected is None else {"expected_count": expected}
    header = {} if expected is None else {ATTRIBUTES: f"trace=abc,expected_count={expected}"}
    return {
        "raw": {"content": content, "headers": PNG, "params": query},
        "octets": {"content": content, "headers": {"Content-Type": "application/x-image", **header}},
        "json": {"json": {"image": encoded, "expected_count": expected}},
        "unsaid": {"content": content, "params": query},
        "boto3": {"content": content, "params": query, "headers": {"Content-Type": "application/octet-stream"}},
        "form": {"files": {"file": ("bin.png", content, "image/png")}, "data": query},
    }


@pytest.mark.parametrize("expected", [None, 2, 3])
@pytest.mark.parametrize("brightness", [60, 125])
def test_every_kind_of_body_gets_the_answer_worked_out_by_hand(server, brightness, expected):
    probabilities = by_hand(brightness)
    for kind, body in bodies(gray_image(brightness), expected).items():
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


ENCODED = base64.b64encode(gray_image()).decode()
FORM = {"Content-Type": "multipart/form-data"}
REFUSED = {
    "no body": (400, "empty", {"headers": PNG}),
    "no media type and no image": (422, "image-undecodable", {"content": b"x", "headers": {}}),
    "another media type": (415, "media-type", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
    "curl's own media type": (415, "media-type", {"data": {"a": "b"}}),
    "no image": (422, "image-undecodable", {"content": b"hello", "headers": PNG}),
    "cut off": (422, "image-undecodable", {"content": gray_image(kind="JPEG", size=(200, 200))[:500], "headers": JPEG}),
    "an image of nothing": (422, "image-undecodable", {"json": {"image": ""}}),
    "a count that is no number": (400, "expected-count", {"params": {"expected_count": "two"}}),
    "an empty count": (400, "expected-count", {"params": {"expected_count": ""}}),
    "a count that was never learnt": (400, "expected-count", {"params": {"expected_count": "9"}}),
    "two counts": (
        409,
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
    "an image that is a number": (400, "malformed", {"json": {"image": 3}}),
    "no base64": (400, "malformed", {"json": {"image": "héllo"}}),
    "an address": (400, "malformed", {"json": {"image_url": "http://127.0.0.1:1/a.jpg"}}),
    "S3 that is not allowed": (403, "location-not-allowed", {"json": {"s3_key": "s3://bucket/a.jpg"}}),
    "a form without a file": (400, "malformed", {"files": {"other": ("a.png", gray_image())}}),
    "a form with a text for a file": (400, "malformed", {"files": {"file": (None, "hello")}}),
    "a form with two files": (400, "malformed", {"files": [("file", ("a", b"a")), ("file", ("b", b"b"))]}),
    "JSON of millions of lists": (400, "malformed", {"content": b"[" + b"[]," * 2_000_000 + b"1]"}),
    **{
        f"a form in {charset}": (
            400,
            "malformed",
            {
                "content": b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\na\r\n--x--\r\n'
                % field,
                "headers": {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"},
            },
        )
        # Two codecs that fail on any name; an unknown one is passed over, and no field is called so.
        for charset, field in {"undefined": b"file", "punycode": b"file", "no-such": b"a.b-"}.items()
    },
    "a form without a boundary": (
        400,
        "malformed",
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused_with_a_reason_and_a_hint(server, name):
    status, reason, body = REFUSED[name]
    if reason == "expected-count" and "json" not in body:
        body = {"content": gray_image(), **body, "headers": PNG | body.get("headers", {})}
    if reason == "malformed" and "headers" not in body and "content" in body:
        body = {**body, "headers": {"Content-Type": "application/json"}}
    response = server.client.post("/invocations", **body)
    answer = response.json()
    assert (response.status_code, answer["reason"]) == (status, reason), answer
    assert set(answer) == {"error", "hint", "reason"} and answer["error"] and answer["hint"]


def test_json_of_millions_of_lists_is_refused_before_it_is_parsed(server):
    body = REFUSED["JSON of millions of lists"][2] | {"headers": {"Content-Type": "application/json"}}
    assert "more than 2000 parts" in server.client.post("/invocations", **body).json()["error"]


def test_other_routes_and_methods_are_refused_in_the_same_words(server):
    missing, wrong = server.client.get("/nothing"), server.client.get("/invocations")
    assert (missing.status_code, wrong.status_code, wrong.headers["allow"]) == (404, 405, "POST")
    assert missing.json()["reason"] == wrong.json()["reason"] == "route"


def test_no_route_redirects_to_what_host_says_and_head_is_answered_as_get(server):
    for path in ("/ping/", "/invocations/"):
        assert server.client.get(path, headers={"Host": "elsewhere"}).status_code == 404
    for path in ("/", "/ping", "/metrics", "/openapi.json"):
        answer = server.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_a_image_as_large_as_allowed_is_read_and_a_byte_more_is_not(server):
    content = gray_image()
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
    assert {"200", "400", "408", "409", "413", "415", "422", "500", "503"} == set(described["responses"])
    assert "s3_key" not in json.dumps(described), "it is not allowed here"

    def figure(name: str) -> float:
        found = re.search(rf"^stocktake_{re.escape(name)} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    names = (
        'requests_total{path="/invocations",status="200"}',
        'requests_total{path="/invocations",status="422"}',
        'refused_total{reason="image-undecodable"}',
        'counts_total{count="3"}',
        'request_seconds_count{path="/invocations"}',
        'requests_total{path="other",status="404"}',
    )
    before = [figure(name) for name in names]
    server.client.post("/invocations", content=gray_image(125), headers=PNG)
    server.client.post("/invocations", content=b"x", headers=PNG)
    server.client.get("/some/where")
    assert [figure(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 1, 1, 2, 1]
    assert figure("requests_in_flight") == 1  # the one that asks


def test_sigterm_lets_a_request_finish_and_the_log_has_one_line_for_each(model_folder, tmp_path):
    content = gray_image()
    head = HEAD + f"Content-Length: {len(content)}\r\n\r\n"
    with serving(model_folder, tmp_path / "log", "log=json") as served:
        served.client.get("/forged%0A2026 line")
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as client:
            client.sendall(head.encode() + content[:-1])
            while "requests_in_flight 2.0" not in served.client.get("/metrics").text:
                time.sleep(0.01)
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            client.sendall(content[-1:])
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        printed, _ = served.process.communicate(timeout=60)
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"count":3' in answer
    assert served.process.returncode == 0 and json.loads(printed.splitlines()[-1])["counted"] == 1
    first, *_, last = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (first["method"], first["path"], first["status"]) == ("GET", "/forged%0A2026%20line", 404)
    assert (last["status"], last["bytes"], last["count"]) == (200, len(content), 3)
    assert set(last) == {"time", "client", "method", "path", "status", "ms", "bytes", "count"}


@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGTERM, signal.SIGINT]], ids=["twice", "after TERM"])
def test_ctrl_c_after_a_signal_ends_it_at_once_and_without_a_trace(model_folder, tmp_path, signals):
    with (
        serving(model_folder, tmp_path / "log") as served,
        socket.create_connection(("127.0.0.1", served.port)) as slow,
    ):
        slow.sendall((HEAD + "Content-Length: 1000\r\n\r\n").encode())
        asked = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert served.client.get("/ping", headers=asked).status_code == 200
        served.process.send_signal(signals[0])
        time.sleep(0.5)
        code, printed = served.stop(signals[1])
        assert code == 0 and json.loads(printed[-1])["requests"] == 2
        log = served.log.read_text()
        assert "Traceback" not in log and "pip install" not in log


def test_a_request_that_outlasts_the_shutdown_gets_503(model_folder, tmp_path):
    with serving(model_folder, tmp_path / "log", "shutdown_timeout_s=0") as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as client:
            client.sendall(HEAD.encode() + b"Content-Length: 1000\r\n\r\nx")
            while "requests_in_flight 2.0" not in served.client.get("/metrics").text:
                time.sleep(0.01)
            served.process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        code = served.process.wait(timeout=60)  # a second signal would meet a process without its handlers
    assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer.lower()
    assert b"The server is busy. It is going down." in answer
    assert code == 0 and "Traceback" not in (tmp_path / "log").read_text()


SETTINGS = {
    **{"host": "127.0.0.1", "port": 0, "workers": 1, "max_waiting": 1, "max_body_mib": 1, "body_timeout_s": 1},
    **{"shutdown_timeout_s": 1, "allowed_prefixes": [], "storage": StorageOptions(), "log": None},
}


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"model": "/nowhere"}, "/nowhere/model.json cannot be read"),
        ({"log": "loud"}, "log='loud' is none of json, plain, null"),
        ({"allowed_prefixes": ["s3://b/bins"]}, "'s3://b/bins' needs the form s3://bucket/"),
        ({"host": "256.0.0.1"}, "Cannot listen on host=256.0.0.1"),
        ({"host": "[no.such.host.invalid]"}, "Cannot listen on host=no.such.host.invalid port=0: "),
        ({"host": "http://127.0.0.1"}, "Type host=127.0.0.1."),
        ({"host": ""}, "host='' is empty or no text. Type host=127.0.0.1"),
        ({"host": None}, "host=None is empty or no text"),
        ({"model": ""}, "model='' is empty or no text"),
        ({"port": 70_000}, "port=70000 is not a whole number from 0 to 65535. Type port=8080"),
        ({"port": "http"}, "port='http' is not a whole number"),
        ({"workers": 0}, "workers=0 is not a whole number from 1 to 1024"),
        ({"workers": 1.5}, "workers=1.5 is not a whole number"),
        ({"max_waiting": "abc"}, "max_waiting='abc' is not a whole number from 0 to 10000. Type max_waiting=32"),
        ({"max_waiting": True}, "max_waiting=True is not a whole number"),
        ({"max_body_mib": -1}, "max_body_mib=-1 is not a number from 0.001 to 32. Type max_body_mib=6"),
        ({"max_body_mib": float("nan")}, "max_body_mib=nan is not a number"),
        ({"body_timeout_s": None}, "body_timeout_s=None is not a number from 0.1 to 3600"),
        ({"shutdown_timeout_s": -1}, "shutdown_timeout_s=-1 is not a whole number from 0 to 3600"),
    ],
)
def test_what_cannot_be_served_is_refused(model_folder, monkeypatch, setting, error):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises((ValueError, OSError), match=re.escape(error)):
        serve(**{"model": str(model_folder), **SETTINGS, **setting})


def test_a_taken_port_is_refused_without_a_trace_and_torch_is_not_imported(model_folder, server):
    arguments = ["serve", f"model={model_folder}", f"port={server.port}"]
    command = [sys.executable, *LIST_IMPORTS, str(REPOSITORY / "scripts" / "serve.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert lines[-1].startswith(f"Cannot listen on host=127.0.0.1 port={server.port}: Address already in use")
    imported = imported_modules(done.stderr)
    assert "stocktake.serving.server" in imported
    assert not imported & {"torch", "torchvision", "pytorch_lightning", "boto3", "sagemaker"}


def test_predict_asks_a_running_server(server, tmp_path, run_script, capsys):
    for brightness in (25, 125, 225):
        (tmp_path / f"{brightness}.png").write_bytes(gray_image(brightness))
    (tmp_path / "bad.png").write_text("hello")
    code = run_script("predict.py", f"images=[{tmp_path}]", f"endpoint={server.url}", "json=true")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 1
    assert [answer.get("count") for answer in answers] == [3, 5, 1, None]  # 125, 225, 25, bad
    assert "are no image" in answers[3]["error"] and "Send a JPEG" in answers[3]["error"]
    assert list(answers[0]["probabilities"].values()) == pytest.approx(by_hand(125), abs=1e-5)


@pytest.mark.parametrize(
    ("num_cores", "num_workers", "share", "alone"),
    [(1, 1, 1, None), (2, 2, 1, 2), (2, 1, 2, None), (8, 2, 4, 8), (2, 5, 1, 2)],
)
def test_workers_share_the_cores(model_folder, monkeypatch, num_cores, num_workers, share, alone):
    for module in ("server", "model_folder"):
        monkeypatch.setattr(f"stocktake.serving.{module}.num_cores", lambda: num_cores)
    opened = open_predictors(str(model_folder), num_workers)
    threads = [predictor and predictor.session.get_session_options().intra_op_num_threads for predictor in opened]
    assert threads == [share, alone]


def test_a_client_that_hangs_up_ends_no_server(model_folder, tmp_path):
    with serving(model_folder, tmp_path / "log", "log=json") as served:
        assert signal.SIGPIPE in ignored_by(served.process.pid)
        assert served.client.get("/ping").status_code == 200


def ignored_by(pid: int) -> set[signal.Signals]:
    """Returns the signals that a process ignores (proc(5), SigIgn of /proc/pid/status)."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")), 16)
    return {number for number in signal.Signals if mask >> (number - 1) & 1}
