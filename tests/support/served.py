"""An exported model whose answers can be worked out by hand, and the server over it as its users start it."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy
import onnx
import uvicorn
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

REPOSITORY = pathlib.Path(__file__).parents[2]
COUNTS = [1, 2, 3, 4, 5]
CENTRES = numpy.array([25, 75, 125, 175, 225], dtype=numpy.float32)  # the brightness that each count stands for


def by_hand(brightness: float) -> numpy.ndarray:
    """P(count) of a gray image: a softmax of the squared distances to the centres."""
    scores = numpy.exp(-((brightness - CENTRES) ** 2) / 500)
    return scores / scores.sum()


def export(folder: pathlib.Path) -> pathlib.Path:
    """Writes what scripts/export.py writes, of a graph that looks at the mean brightness alone."""
    constants = {"centres": CENTRES, "scale": numpy.float32(-1 / 500), "axes": numpy.array([0, 1, 2])}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["brightness"], keepdims=0),
        helper.make_node("Sub", ["brightness", "centres"], ["distances"]),
        helper.make_node("Mul", ["distances", "distances"], ["squares"]),
        helper.make_node("Mul", ["squares", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["height", "width", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [5])],
        [numpy_helper.from_array(numpy.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    facts = {
        "format_version": 1,
        "version": "brightness-1",
        "counts": COUNTS,
        "calibration": {"temperature": 1.0, "coverage": 0.9, "threshold": 0.15, "counts": COUNTS, "num_images": 100},
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(facts))
    return folder


def gray_image(brightness: int = 125, kind: str = "PNG", size: tuple[int, int] = (48, 36), **options) -> bytes:
    """A plain gray image."""
    file = io.BytesIO()
    Image.new("RGB", size, (brightness,) * 3).save(file, kind, **options)
    return file.getvalue()


class Served:
    """A running server: its address, its process, a client."""

    def __init__(self, process: subprocess.Popen, url: str, log: pathlib.Path):
        self.process, self.url, self.log = process, url, log
        self.port = int(url.rpartition(":")[2])
        self.client = httpx.Client(base_url=url, timeout=60)

    def stop(self, by: int = signal.SIGTERM) -> tuple[int, list[str]]:
        """Sends the signal; returns the exit code and the rest of stdout."""
        self.process.send_signal(by)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest.splitlines()


@contextlib.contextmanager
def serving(folder: pathlib.Path, log: pathlib.Path, *overrides: str):
    """Runs scripts/serve.py in a process of its own."""
    command = [
        sys.executable,
        str(REPOSITORY / "scripts" / "serve.py"),
        "serve",
        f"model={folder}",
        "port=0",
        *overrides,
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, cwd=log.parent
        )
        assert process.stdout
        try:
            first = process.stdout.readline()
            assert first, log.read_text()
            served = Served(process, json.loads(first)["url"], log)
            with served.client:
                yield served
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()


@contextlib.contextmanager
def listening(app, http: type[asyncio.Protocol] | str = "h11"):
    """Serves an app in a thread of this process; yields a client of it, whose `base_url` has the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=http, ws="none", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    # A connection of its own for each request: after a 500 the server closes the one that it came by.
    limits = httpx.Limits(max_keepalive_connections=0)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
