"""scripts/serve.py: opens an exported model, listens, and goes down without breaking off an answer."""

import errno
import json
import signal
import socket
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import uvicorn

from stocktake.hardware import num_cores
from stocktake.images.decoding import MAX_BYTES
from stocktake.serving.app import create_app
from stocktake.serving.connections import Connections
from stocktake.serving.drift_watch import DriftWatch
from stocktake.serving.model_folder import read_baseline
from stocktake.serving.observability import LINES
from stocktake.serving.prediction_log import PredictionLog
from stocktake.serving.predictor import Predictor
from stocktake.serving.s3_images import S3Images
from stocktake.storage import Folder, StorageOptions, local_path

# What each number may be: the least, the most, what to type; whole ones are those whose least is.
NUMBERS: dict[str, tuple[float, float, float]] = {
    "port": (0, 65_535, 8080),
    "workers": (1, 1_024, 2),
    "max_waiting": (0, 10_000, 32),
    "max_body_mib": (0.001, MAX_BYTES / 2**20, 6),
    "body_timeout_s": (0.1, 3_600, 30),
    "shutdown_timeout_s": (0, 3_600, 30),
    "prediction_log_share": (0.0, 1, 0.1),
}


def serve(
    *,
    model: str,
    host: str,
    port: int,
    workers: int | None,
    max_waiting: int,
    max_body_mib: float,
    body_timeout_s: float,
    shutdown_timeout_s: int,
    allowed_prefixes: Sequence[str],
    storage: StorageOptions,
    log: str | None,
    prediction_log: str | None = None,
    prediction_log_share: float = 1.0,
    prediction_log_images: bool = False,
) -> None:
    """Serves until SIGINT or SIGTERM, which let requests that have begun come to their end.

    Prints the address to stdout once it listens, and what was answered as the last line; the log goes to stderr.

    Raises:
        ValueError: The model's folder or a setting is wrong.
        OSError: The port is taken.
    """
    numbers = {"port": port, "max_waiting": max_waiting, "max_body_mib": max_body_mib, "body_timeout_s": body_timeout_s}
    numbers |= {"shutdown_timeout_s": shutdown_timeout_s, "prediction_log_share": prediction_log_share}
    numbers |= {} if workers is None else {"workers": workers}
    for name, number in numbers.items():
        _check_number(name, number)
    for name, text, example in (("model", model, "runs/demo/latest/model"), ("host", host, "127.0.0.1")):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name}={text!r} is empty or no text. Type {name}={example}")
    if log is not None and log not in LINES:
        raise ValueError(f"log={log!r} is none of {', '.join(LINES)}, null. Type log=plain.")
    host = host.removeprefix("[").removesuffix("]")  # of IPv6, as in a URL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # before it listens, too: an end that was asked for
    num_workers = workers or num_cores()
    predictor, on_all_cores = open_predictors(model, num_workers)
    s3_images = S3Images(allowed_prefixes, storage, int(max_body_mib * 2**20)) if allowed_prefixes else None
    totals = {"requests": 0, "counted": 0}

    def log_line(line: dict[str, Any]) -> None:
        totals["requests"] += 1
        totals["counted"] += "count" in line
        if log is not None:
            print(LINES[log](line), file=sys.stderr, flush=True)

    answers, watch = None, None
    if prediction_log is not None:
        folder = Folder(prediction_log, storage)
        folder.create()
        watch = DriftWatch(read_baseline(local_path(model), predictor.model))
        answers = PredictionLog(folder, prediction_log_share, prediction_log_images, watch.add)
        watch.watch(answers)
    app = create_app(
        predictor,
        on_all_cores=on_all_cores,
        num_workers=num_workers,
        max_waiting=max_waiting,
        max_body_mib=max_body_mib,
        body_timeout_s=body_timeout_s,
        s3_images=s3_images,
        log_line=log_line,
        prediction_log=answers,
        collectors=[] if watch is None else [watch],
    )
    connections = Connections()
    with _listening(host, port) as listener:
        url_host = f"[{host}]" if ":" in host else host
        url = f"http://{url_host}:{listener.getsockname()[1]}"
        print(json.dumps({"url": url, "model_version": predictor.version, "workers": num_workers}), flush=True)
        began = time.monotonic()
        config = uvicorn.Config(
            app,
            http=connections.protocol,  # on h11, which bounds the headers, as httptools does not
            backlog=connections.num_accepted_at_once,
            proxy_headers=False,  # anybody may write X-Forwarded-For; the log has who really asks
            ws="none",
            lifespan="off",  # a second Ctrl-C would break it off with a trace; the threads end with the process
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=shutdown_timeout_s,
        )
        try:
            Server(config).run(sockets=[listener])
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # who asks again does not wait for what is being counted
        finally:
            if answers is not None:
                answers.close()
                totals |= {"logged": answers.num_logged, "not_logged": answers.num_dropped}
            print(json.dumps({**totals, "seconds": round(time.monotonic() - began, 1)}), flush=True)


class Server(uvicorn.Server):
    """uvicorn's, but for signals: it raises each again once it is down, and of two asyncio makes a trace."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Lets the answers that have begun come to their end; Ctrl-C typed once more does not."""
        self.force_exit |= self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def open_predictors(model: str, num_workers: int) -> tuple[Predictor, Predictor | None]:
    """Returns the model on each worker's share of the cores, and on all of them where that is more.

    Images beside each other are counted fastest on cores of their own, and one that comes alone on all of them.
    """
    share = max(1, num_cores() // num_workers)
    predictor, *on_all_cores = Predictor.open_each(model, [share, None] if share < num_cores() else [share])
    return predictor, on_all_cores[0] if on_all_cores else None


def _check_number(name: str, number: object) -> None:
    least, most, example = NUMBERS[name]
    kinds = int if isinstance(least, int) else int | float
    if isinstance(number, bool) or not isinstance(number, kinds) or not least <= number <= most:
        wanted = "a whole number" if kinds is int else "a number"
        raise ValueError(f"{name}={number!r} is not {wanted} from {least} to {most:g}. Type {name}={example}.")


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        hint = "port=0 for a free one" if is_port else "host=127.0.0.1"
        raise OSError(f"Cannot listen on host={host} port={port}: {error.strerror}. Type {hint}.") from error
