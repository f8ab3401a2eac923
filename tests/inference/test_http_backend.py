"""Asking a server for counts: what it says, when it is busy, and when it is none; the server is Python's own."""

import contextlib
import http.server
import json
import re
import socket
import threading

import pytest

from stocktake.inference.endpoint_backend import EndpointError
from stocktake.inference.http_backend import Endpoint
from stocktake.workflows.predict import predict


@contextlib.contextmanager
def answering(*answers):
    """Gives one (status, headers, body) after the other; yields its URL and the bodies that came."""
    planned, bodies = iter(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "ok"}')

        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = next(planned)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()


COUNTED = (200, {}, json.dumps({"count": 2, "probabilities": {"1": 0.25, "2": 0.75}}).encode())
BUSY = (503, {"Retry-After": "0"}, b'{"error": "Busy.", "cure": "Wait."}')


def test_a_server_that_refuses_a_body_unread_is_heard():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                body = b'{"error": "Too large.", "hint": "Send a smaller one."}'
                connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        threading.Thread(target=refuse, daemon=True).start()
        endpoint = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=30, max_tries=1)
        with pytest.raises(EndpointError, match=r"Too large\. Send a smaller one\."):  # was: Connection reset by peer
            endpoint.count(b"x" * (16 << 20))


def test_a_busy_server_is_asked_again_when_it_says():
    with answering(BUSY, BUSY, COUNTED) as (url, bodies):
        assert Endpoint(url, timeout_s=5, max_tries=3).count(b"picture") == {1: 0.25, 2: 0.75}
    assert bodies == [b"picture"] * 3


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([BUSY, BUSY, BUSY], r"^Busy\. Wait\.$"),
        ([(503, {"Retry-After": "86400"}, b"")], "^HTTP 503 Service Unavailable$"),
        ([(503, {}, b"<html>")], "^HTTP 503 Service Unavailable$"),
        ([(422, {}, b'{"error": "Cut off.", "cure": "Send it whole."}')], r"^Cut off\. Send it whole\.$"),
        ([(200, {}, b'{"probabilities": {}}')], r"not as scripts/serve\.py does"),
        ([(200, {}, b'{"probabilities": {"1": NaN, "2": 0.5}}')], r"not as scripts/serve\.py does"),
        ([(200, {}, b'{"probabilities": {"1": 8, "2": -7}}')], r"not as scripts/serve\.py does"),
        ([(200, {}, b'{"probabilities": {"1": 0.1, "2": 0.5, "02": 0.9}}')], r"not as scripts/serve\.py does"),
        ([(200, {}, b'{"probabilities": {"1": 1%s}}' % (b"0" * 400))], r"not as scripts/serve\.py does"),
        ([(200, {}, b"[" * 100_000)], "does not answer: maximum recursion depth"),
        ([(422, {}, b"[" * 100_000)], "^HTTP 422 Unprocessable"),
        ([(302, {"Location": "ftp://127.0.0.1:9/bin.jpg"}, b"")], "redirected to 'ftp:.*neither http:// nor https://"),
        ([(200, {}, b'{"hello": 1}')], r"not as scripts/serve\.py does: \{'hello': 1\}"),
        ([(200, {}, b"<html>")], "does not answer"),
    ],
)
def test_what_is_no_count_is_told(answers, said):
    with answering(*answers) as (url, _), pytest.raises(EndpointError, match=said):
        Endpoint(url, timeout_s=5, max_tries=3).count(b"picture")


def test_no_server_and_no_address_are_told():
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9 does not answer: .*refused.* scripts/serve\.py"):
        Endpoint("http://127.0.0.1:9/", timeout_s=5, max_tries=1).check()
    for url in ("localhost:8080", "ftp://localhost", "file:///etc/passwd"):
        with pytest.raises(ValueError, match=r"is no web address\. Type endpoint="):
            Endpoint(url, timeout_s=5, max_tries=1)


def test_a_password_is_refused_and_never_shown():
    with pytest.raises(ValueError, match=r"Type endpoint=https://host:8080/$") as error:
        Endpoint("https://me:secret@host:8080/", timeout_s=5, max_tries=1)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Nothing is named that counts. Type either checkpoint="),
        (
            ["checkpoint=best.ckpt", "endpoint=http://127.0.0.1:8080"],
            "checkpoint=best.ckpt and endpoint=http://127.0.0.1:8080: only one of them can count. Type either ",
        ),
    ],
)
def test_one_to_count_is_wanted(compose, words, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        predict(compose("predict", "images=[bin.jpg]", *words))


def test_a_folder_is_counted_by_a_server_and_a_file_that_is_none_is_told(compose, tmp_path, capsys):
    (tmp_path / "bin.jpg").write_bytes(b"picture")
    with answering(COUNTED) as (url, _):
        words = [f"images=[{tmp_path}/bin.jpg,{tmp_path}/none.jpg]", f"endpoint={url}", "json=true"]
        counted, missing = predict(compose("predict", *words))
    assert (counted.count, counted.probabilities) == (2, {1: 0.25, 2: 0.75})
    assert missing.image.endswith("none.jpg") and missing.error == "No such file or directory"
    assert [json.loads(line).get("count") for line in capsys.readouterr().out.splitlines()] == [2, None]
