"""The prediction log: JSON lines of what was answered, on disk or in S3, written without keeping an answer waiting.

A thread of its own measures the images and writes; between it and the answers is a queue of so many places. Where that
is full, an answer is not logged, and it is counted that it was not. Files are written whole: what grows is written anew
until it is full, so that S3 and a disk are the same, a reader never sees half a line, and a crash loses seconds.
"""

import base64
import contextlib
import json
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from numpy import ndarray

from stocktake.seeding import derive_seed
from stocktake.serving.logged_answer import LoggedAnswer, measure_reduced, reduced
from stocktake.storage import Folder

MAX_WAITING = 64  # answers; an image takes 0.6 MB at most, and with prediction_log_images its own bytes
FILE_BYTES, FILE_S = 2**22, 3600  # a file is followed by the next when it is so large or so old
FLUSH_S = 10  # what a crash may lose
MAX_FAILED_BYTES = 4 * FILE_BYTES  # kept where they cannot be written; then lines are dropped
CLOSE_S = 20
DROPPED = "dropped"  # the key of a line that says how many answers are missing before it


@dataclass
class SeenImage:
    """What is kept of an image while its answer is sent.

    Attributes:
        pixels_HW3: As `reduced`.
        content: Its bytes, where they are to be logged.
    """

    pixels_HW3: ndarray
    width_px: int
    height_px: int
    content: bytes | None = None

    @classmethod
    def of(cls, pixels_HW3: ndarray) -> "SeenImage":
        height_px, width_px, _ = pixels_HW3.shape
        return cls(reduced(pixels_HW3), width_px, height_px)


class PredictionLog:
    """Takes answers from any thread, at once and without fail, and writes them by and by."""

    def __init__(
        self,
        folder: Folder,
        share: float = 1.0,
        keeps_images: bool = False,
        on_logged: Callable[[LoggedAnswer], None] | None = None,
        flush_s: float = FLUSH_S,
    ):
        """
        Args:
            folder: Where the files go, `<day>/<time>-<random>.jsonl`.
            share: Of the requests that are logged, chosen by their id alone.
            keeps_images: Also log each image.
            on_logged: Is told each answer with what was measured, in the log's own thread.
            flush_s: Seconds from a line to the file that has it.
        """
        self.folder, self.share, self.keeps_images = folder, share, keeps_images
        self.on_logged, self.flush_s = on_logged, flush_s
        self.num_logged, self.num_dropped = 0, 0
        self._queue: queue.Queue[tuple[LoggedAnswer, SeenImage | None] | None] = queue.Queue(MAX_WAITING)
        self._counting, self._untold = threading.Lock(), 0
        self._lines, self._num_bytes, self._num_flushed, self._is_failing = [], 0, 0, False  # of the file that grows
        self._key, self._began, self._flushed_at = "", 0.0, time.monotonic()
        self._thread = threading.Thread(target=self._run, name="prediction log", daemon=True)
        self._thread.start()

    def wants(self, request_id: str) -> bool:
        """Whether a request is of the share that is logged."""
        return derive_seed("prediction log", request_id) < self.share * 2**63

    def put(self, answer: LoggedAnswer, image: SeenImage | None) -> None:
        """Takes an answer, or counts that there was no place for it."""
        try:
            self._queue.put_nowait((answer, image))
        except queue.Full:
            self._drop("answers come faster than they are logged")

    def close(self) -> None:
        """Writes what waits and ends; what cannot be written within CLOSE_S is left."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)
        lost = len(self._lines) - self._num_flushed  # on a full disk
        self.num_logged, self.num_dropped = self.num_logged - lost, self.num_dropped + lost

    def _run(self) -> None:
        while True:
            try:
                waited = self._queue.get(timeout=self.flush_s)
            except queue.Empty:
                self._flush_when_due()
                continue
            if waited is None:
                self._flush()
                return
            try:
                self._add(*waited)
            except Exception as error:  # of one image; the answers after it are logged
                self._drop(f"an answer could not be logged ({type(error).__name__}: {error})")
            self._flush_when_due()

    def _add(self, answer: LoggedAnswer, image: SeenImage | None) -> None:
        if image is not None:
            answer = replace(answer, **measure_reduced(image.pixels_HW3, image.width_px, image.height_px))
            if image.content is not None:
                answer = replace(answer, image=base64.b64encode(image.content).decode())
        if self.on_logged is not None:
            self.on_logged(answer)
        if self._num_bytes > MAX_FAILED_BYTES:
            self._drop(f"{self.folder.url} has not been written for too long")
            return
        with self._counting:
            untold, self._untold = self._untold, 0
        if untold:
            self._append(json.dumps({DROPPED: untold, "time": answer.time}))
        self._append(answer.to_line())
        self.num_logged += 1

    def _append(self, line: str) -> None:
        if not self._lines:
            now = datetime.now(UTC)
            self._key, self._began = f"{now:%Y-%m-%d/%H%M%S}-{uuid.uuid4().hex[:8]}.jsonl", time.monotonic()
        self._lines.append(line)
        self._num_bytes += len(line) + 1

    def _flush_when_due(self) -> None:
        now = time.monotonic()
        is_full = self._num_bytes >= FILE_BYTES and not self._is_failing
        if is_full or now - self._flushed_at >= self.flush_s or (self._lines and now - self._began >= FILE_S):
            self._flush()

    def _flush(self) -> None:
        self._flushed_at = time.monotonic()
        if len(self._lines) == self._num_flushed and not self._is_full():
            return
        try:
            self.folder.write(self._key, ("\n".join(self._lines) + "\n").encode())
        except (OSError, ValueError) as error:
            if not self._is_failing:
                _tell(f"{self.folder.url} cannot be written, and is tried again every {self.flush_s:g} s ({error})")
            self._is_failing = True
            return
        self._is_failing, self._num_flushed = False, len(self._lines)
        if self._is_full():
            self._lines, self._num_bytes, self._num_flushed = [], 0, 0

    def _is_full(self) -> bool:
        return self._num_bytes >= FILE_BYTES or (bool(self._lines) and time.monotonic() - self._began >= FILE_S)

    def _drop(self, why: str) -> None:
        if not self.num_dropped:
            _tell(f"{why}; this one is left out, and /metrics counts those after it")
        with self._counting:
            self.num_dropped += 1
            self._untold += 1


def _tell(what: str) -> None:
    print(f"Prediction log: {what}.", file=sys.stderr, flush=True)
