"""Deadlines, against servers that send a byte now and then: each would take ten seconds, longer than any deadline."""

import contextlib
import socket
import threading
import urllib.request

import pytest

from stocktake.inference.endpoint_backend import EndpointError
from stocktake.inference.http_backend import Endpoint
from stocktake.inference.image_reader import ImageReader
from stocktake.inference.web import open_response
from stocktake.storage import StorageOptions

TIMEOUT_S = 0.3
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@contextlib.contextmanager
def trickling(at_once: bytes, slowly: bytes):
    """Answers everybody so: some bytes at once, the others in ten seconds, one by one."""
    ended = threading.Event()

    def answer(client):
        with client, contextlib.suppress(OSError):
            client.settimeout(5)
            client.recv(65536)
            client.sendall(at_once)
            for byte in slowly:
                if ended.wait(10 / len(slowly)):
                    return
                client.sendall(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen():
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        ended.set()


SLOW = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 97 + b"\r\nContent-Length: 1\r\n\r\nx"),
    "body": (HEAD + b"Content-Length: 100\r\n\r\n", b"x" * 100),
    "body without a length": (HEAD + b"\r\n", b"x" * 100),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 20 + b"0\r\n\r\n"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /\r\n", b"X: " + b"y" * 97 + b"\r\n\r\n"),
    "error": (b"HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n", b"x" * 100),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_server_that_trickles_does_not_evade_the_deadline(name):
    with trickling(*SLOW[name]) as address:
        if name != "error":  # of which no byte is waited for
            with pytest.raises(TimeoutError, match=r"did not answer within timeout_s=0\.3; type a larger"):
                ImageReader(StorageOptions(), 1000, TIMEOUT_S).read(f"http://{address}/a.jpg")
        with pytest.raises(EndpointError, match=rf"{address} does not answer: .*timeout_s=0\.3"):
            Endpoint(f"http://{address}", TIMEOUT_S, max_tries=1).count(b"picture")


def test_a_handshake_that_trickles_does_not_either():
    # The head of a TLS record of 16,384 bytes, and nothing that could be checked.
    with trickling(b"\x16\x03\x03\x40\x00", b"\0" * 100) as address, pytest.raises(TimeoutError, match="timeout_s"):
        ImageReader(StorageOptions(), 1000, TIMEOUT_S).read(f"https://{address}/a.jpg")


def test_no_redirect_leaves_the_web_for_what_has_no_deadline():
    head = HEAD.replace(b"200 OK", b"302 Found") + b"Location: ftp://127.0.0.1:9/a.jpg\r\n\r\n"
    told = r"redirected to 'ftp://127.*neither http:// nor https://"
    with trickling(head, b"") as address, pytest.raises(OSError, match=told):
        ImageReader(StorageOptions(), 1000, 1e10).read(f"http://{address}/a.jpg")


def test_within_the_deadline_nothing_is_lost_or_left():
    with trickling(HEAD + b"Content-Length: 3\r\n\r\nabc", b"") as address:
        for _ in range(3):
            assert ImageReader(StorageOptions(), 1000, 30).read(f"http://{address}/a.jpg") == b"abc"
        with open_response(urllib.request.Request(f"http://{address}/"), 30) as response:
            assert (response.status, response.read()) == (200, b"abc")
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for timer in timers:
        timer.join(5)
    assert not any(timer.is_alive() for timer in timers)
