"""The answers of a window of time, read from a prediction log or from what SageMaker's data capture wrote."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy
from numpy import ndarray

from stocktake.monitoring.data_capture import CAPTURE_DATA, read_capture
from stocktake.monitoring.monitored_model import MonitoredModel
from stocktake.serving.baseline import figures_of
from stocktake.serving.logged_answer import IMAGE_FIGURES, LoggedAnswer
from stocktake.serving.prediction_log import DROPPED
from stocktake.storage import Folder, join_url, split_url

SUFFIXES = (".jsonl", ".json")
NUM_SHOWN = 3  # of the lines that are damaged
MAX_DROPPED = 10**12  # requests that one line of a log may speak of


@dataclass(frozen=True)
class Window:
    """What a log says of one model within a window of time.

    Attributes:
        counts: That the model tells apart.
        requests: In the order of their times, those that were refused, too.
        num_files: That were read.
        num_lines: In them, of any time and model.
        damaged: Each line that is none, as `file:line reason`.
        num_dropped: Answers of which the server says that it did not log them.
        other_models: How many answers are left out because they are of another model version.
    """

    counts: Sequence[int]
    requests: Sequence[LoggedAnswer]
    num_files: int
    num_lines: int
    damaged: Sequence[str]
    num_dropped: int
    other_models: Mapping[str, int]

    @property
    def answers(self) -> list[LoggedAnswer]:
        return [request for request in self.requests if request.probabilities is not None]

    @property
    def probabilities_NK(self) -> ndarray:
        rows = [[(answer.probabilities or {})[count] for count in self.counts] for answer in self.answers]
        return numpy.array(rows, float).reshape(-1, len(self.counts))

    @property
    def figures(self) -> dict[str, ndarray]:
        answers = self.answers
        images = {name: numpy.array([getattr(one, name) for one in answers], float) for name in IMAGE_FIGURES}
        return figures_of(self.counts, self.probabilities_NK, images)


def read_window(
    location: str, options: Any, model: MonitoredModel, since: datetime | None = None, until: datetime | None = None
) -> Window:
    """Returns what a log holds of one model.

    Args:
        location: A folder with files of JSON lines at any depth, or one such file.
        options: How to reach it, `StorageOptions`.
        since: The first moment of the window; None: of the log.
        until: The first moment after it.

    Raises:
        FileNotFoundError: There is no such folder or file, or none of JSON lines in it.
        StorageError: A file could not be read.
    """
    requests, damaged, other_models = [], [], Counter()
    num_files = num_lines = num_dropped = 0
    for path, content in _files(location, options, since):
        num_files += 1
        for number, line in enumerate(content.splitlines(), start=1):
            if not line.strip():
                continue
            num_lines += 1
            try:
                request = _read_line(line)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
                damaged.append(f"{path}:{number} {str(error)[:200]}")
                continue
            if isinstance(request, int):
                num_dropped += request
            elif (since is not None and request.moment < since) or (until is not None and request.moment >= until):
                continue
            elif request.model_version != model.version:
                other_models[request.model_version] += 1
            elif request.probabilities is not None and sorted(request.probabilities) != list(model.counts):
                damaged.append(f"{path}:{number} has other counts than the model, {sorted(request.probabilities)}")
            else:
                requests.append(request)
    requests.sort(key=lambda request: request.moment)
    return Window(model.counts, requests, num_files, num_lines, damaged, num_dropped, dict(other_models))


def _files(location: str, options: Any, since: datetime | None) -> Iterator[tuple[str, bytes]]:
    """Yields path and content of each file that may hold lines of the window."""
    if location.endswith(SUFFIXES):
        folder, name = split_url(location)
        yield location, Folder(folder, options).read(name)
        return
    folder, is_empty = Folder(location, options), True
    for facts in folder.objects():
        if not facts["path"].endswith(SUFFIXES):
            continue
        is_empty = False
        if since is None or facts["last_modified"] >= since:  # what was written before holds nothing after
            yield join_url(folder.url, facts["path"]), folder.read(facts["path"])
    if is_empty:
        raise FileNotFoundError(
            f"log={folder.url} holds no file of JSON lines ({' or '.join(SUFFIXES)}). Type the folder that serve.py "
            "was given as prediction_log, or that SageMaker's data capture writes to."
        )


def _read_line(line: bytes) -> LoggedAnswer | int:
    """Returns a request, or how many the server did not log.

    Raises:
        ValueError: It is neither.
    """
    plain = json.loads(line)
    if isinstance(plain, dict) and CAPTURE_DATA in plain:
        return read_capture(plain)
    if isinstance(plain, dict) and DROPPED in plain:
        number = plain[DROPPED]
        if not isinstance(number, int) or not 0 <= number <= MAX_DROPPED:
            raise ValueError(f"has {DROPPED}={str(number)[:40]!r}")
        return number
    return LoggedAnswer.from_json(plain)
