"""Connections that nobody should hold: half headers, bodies of a byte, more of them than there are file descriptors."""

import contextlib
import json
import resource
import socket
import time

import httpx
import pytest
from served import gray_image, listening, serving

from stocktake.serving.app import create_app
from stocktake.serving.connections import Connections

pytestmark = pytest.mark.integration  # a whole server

PNG = {"Content-Type": "image/png"}
HALF = b"POST /invocations HTTP/1.1\r\nHost: a\r\nX-"
BEGUN = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nx"
WHOLE = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"


def port_of(client: httpx.Client) -> int:
    assert client.base_url.port
    return client.base_url.port


def is_dropped(client: socket.socket) -> bool:
    """Waits until the server ends the connection; False if it has not within a minute."""
    client.settimeout(60)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@contextlib.contextmanager
def connected(port: int, num_connections: int, content: bytes):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(num_connections)]
        for client in clients:
            with contextlib.suppress(OSError):  # it may be dropped already
                client.sendall(content)
        yield clients


@pytest.mark.parametrize("content", [HALF, BEGUN], ids=["half headers", "bodies of one byte"])
def test_a_hundred_slow_connections_hold_up_nobody(server, content):
    with connected(server.port, 100, content):
        for _ in range(3):
            assert server.client.get("/ping").status_code == 200
            assert server.client.post("/invocations", content=gray_image(125), headers=PNG).json()["count"] == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"G", HALF, WHOLE + HALF, WHOLE + b"\r\n", BEGUN.replace(b"image/png", b"text/plain")],
    ids=["nothing", "a byte", "half headers", "half of a second request", "an empty line behind", "a refused body"],
)
def test_what_is_not_gone_on_with_is_dropped(predictor, content):
    connections = Connections(head_timeout_s=0.3)
    with listening(create_app(predictor), http=connections.protocol) as client:
        with connected(port_of(client), 2, content) as waiting:
            assert all(map(is_dropped, waiting))
        assert client.post("/invocations", content=gray_image(125), headers=PNG).json()["count"] == 3
    assert (connections.num_open, connections.waiting) == (0, {})


def test_a_client_that_takes_no_answer_is_dropped(predictor):
    connections = Connections(head_timeout_s=0.3)
    with listening(create_app(predictor), http=connections.protocol) as client:
        with socket.socket() as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            silent.connect(("127.0.0.1", port_of(client)))
            silent.settimeout(0.5)
            with contextlib.suppress(OSError):  # until the server takes no more, either
                for _ in range(200):
                    silent.sendall(WHOLE * 100)
            for _ in range(600):  # taking nothing meanwhile
                if not connections.num_open:
                    break
                time.sleep(0.05)
            assert connections.num_open == 0
            assert is_dropped(silent)
        assert client.get("/ping").status_code == 200


def test_where_places_are_short_the_longest_silent_one_goes(predictor):
    connections = Connections(max_connections=8, head_timeout_s=60)
    with (
        listening(create_app(predictor), http=connections.protocol) as client,
        connected(port_of(client), 8, HALF) as first,
        connected(port_of(client), 3, HALF),
    ):
        assert all(map(is_dropped, first[:3]))
        assert client.get("/ping").status_code == 200
        assert is_dropped(first[3])


def test_more_connections_than_file_descriptors(model_folder, tmp_path):
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))  # which the server inherits
    try:
        with serving(model_folder, tmp_path / "log") as served:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(least, 1024), most))
            with connected(served.port, 400, HALF):
                for _ in range(3):
                    assert served.client.get("/ping").status_code == 200
            code, printed = served.stop()
            assert code == 0 and json.loads(printed[-1])["requests"] == 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
    assert "Too many open files" not in (tmp_path / "log").read_text()


def test_bodies_on_their_way_stay_within_a_limit_and_the_oldest_is_let_go(predictor):
    content = gray_image() + bytes(600_000)
    head = BEGUN.replace(b"1000", str(len(content)).encode())[:-1]
    with (
        listening(create_app(predictor, max_waiting=1, max_body_mib=1, body_timeout_s=60)) as client,
        connected(port_of(client), 4, head + content[:-1]) as slow,
    ):
        answers = []
        for one in slow[:1]:
            one.settimeout(60)
            answers.append(one.recv(65536))
        assert all(answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer.lower() for answer in answers)
        assert client.post("/invocations", content=content, headers=PNG).json()["count"] == 3
        slow[3].sendall(content[-1:])
        slow[3].settimeout(60)
        assert slow[3].recv(65536).startswith(b"HTTP/1.1 200 ")


def test_nobody_writes_anothers_address_into_the_log(model_folder, tmp_path):
    forged = {"X-Forwarded-For": "10.0.0.1 POST /invocations 200\x1b[2J"}
    with serving(model_folder, tmp_path / "log", "log=plain") as served:
        served.client.get("/ping", headers=forged)
        served.client.get("/%1B%5B2J%0A10.0.0.1")
        served.stop()
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if " GET " in line]
    assert [line.split()[1:4] for line in lines] == [
        ["127.0.0.1", "GET", "/ping"],
        ["127.0.0.1", "GET", "/%1B%5B2J%0A10.0.0.1"],
    ]
    assert all("\x1b" not in line and "10.0.0.1 POST" not in line for line in lines)


CHUNKED = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer_to(port: int, content: bytes) -> tuple[bytes, dict]:
    """Returns the status line and the JSON that the server sends before it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        with contextlib.suppress(OSError):  # it may be dropped already
            client.sendall(content)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # what it did not read
            while more := client.recv(65536):
                answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], json.loads(body)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (BEGUN.replace(b"1000", b"abc"), "bad Content-Length"),
        (BEGUN.replace(b"1000", b"-1"), "bad Content-Length"),
        (BEGUN.replace(b"1000", b"1000\r\nContent-Length: 2000"), "conflicting Content-Length"),
        (
            BEGUN.replace(b"1000", b"5\r\nTransfer-Encoding: chunked") + WHOLE,
            "both Content-Length and Transfer-Encoding",
        ),
        (b"hello\r\n\r\n", "illegal request line"),
        (CHUNKED + b"zz\r\n", "illegal chunk header"),
        (CHUNKED + b"1\r\nx\r\n" * 10_001, "a body in more than the 10000 chunks"),
    ],
    ids=["no number", "less than nothing", "two lengths", "both framings", "no HTTP", "no chunk", "200 kB in bytes"],
)
def test_what_is_no_request_is_answered_with_a_sentence(predictor, content, error):
    with listening(create_app(predictor), http=Connections().protocol) as client:
        status, answer = answer_to(port_of(client), content)
        assert status.startswith(b"HTTP/1.1 400 ") and error in answer["error"]
        assert "Content-Length" in answer["hint"] and answer["reason"] == "no-http"
        chunks = (gray_image(125)[place : place + 1] for place in range(len(gray_image(125))))
        assert client.post("/invocations", content=chunks, headers=PNG).json()["count"] == 3


@pytest.mark.parametrize("media_type", ["image/png", "text/plain"], ids=["too large", "of another type"])
def test_who_sends_what_is_refused_reads_why(predictor, media_type):
    content = b"x" * (8 << 20)
    app = create_app(predictor, max_body_mib=0.1)
    with listening(app, http=Connections().protocol) as client, contextlib.ExitStack() as stack:
        head = BEGUN.removesuffix(b"\r\n\r\nx").replace(b"image/png", media_type.encode())
        head = head.replace(b"1000", str(len(content)).encode())
        sender = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(client)), timeout=60))
        sender.sendall(head + b"\r\nConnection: close\r\n\r\n" + content)  # was a ConnectionResetError
        answer = b"".join(iter(lambda: sender.recv(65536), b""))
        assert answer.partition(b" ")[2].startswith((b"413 ", b"415 "))
        assert client.get("/ping").status_code == 200


def test_a_long_method_makes_no_long_line(predictor):
    lines = []
    with listening(create_app(predictor, log_line=lines.append), http=Connections().protocol) as client:
        assert client.request("X" * 50_000, "/ping").status_code == 405
    assert lines[0]["method"] == "X" * 20
