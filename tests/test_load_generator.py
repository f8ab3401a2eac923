import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import load_generator
import numpy
import pytest


class Counter(BaseHTTPRequestHandler):
    """Keeps the bodies that it is sent, and answers with a status of the test's."""

    protocol_version = "HTTP/1.1"
    status, bodies = 200, []

    def do_POST(self):
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Fresh", (Counter,), {"bodies": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True  # of connections that nobody closes
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def run(server, tmp_path: Path, seconds: float) -> subprocess.CompletedProcess:
    (tmp_path / "a.jpg").write_bytes(b"image\r\n\r\nwith lines")
    setting = {"port": server.server_address[1], "images": [str(tmp_path / "a.jpg")], "concurrency": 3}
    command = [sys.executable, load_generator.__file__, json.dumps(setting | {"seconds": seconds})]
    return subprocess.run(command, capture_output=True, timeout=120)


def test_every_answer_is_counted_and_every_body_comes_whole(server, tmp_path):
    figures = json.loads(run(server, tmp_path, 0.3).stdout)
    bodies = server.RequestHandlerClass.bodies
    # One request of each connection may still have been under way.
    assert figures["num_answers"] <= figures["num_all_responses"] <= len(bodies) <= figures["num_all_responses"] + 3
    assert figures["images_per_s"] <= figures["num_answers"] / 0.3
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert all(b"image\r\n\r\nwith lines" in body for body in bodies)


def test_a_refusal_ends_the_run(server, tmp_path):
    server.RequestHandlerClass.status = 503
    done = run(server, tmp_path, 0.3)
    assert done.returncode
    assert b"503" in done.stderr


def test_percentiles_are_those_of_numpy():
    rising = sorted(numpy.random.default_rng(0).exponential(size=137).tolist())
    for share in (1, 50, 95, 99, 100):
        wanted = numpy.percentile(rising, share, method="inverted_cdf")
        assert load_generator.percentile(rising, share) == wanted
