"""Predictor: an exported model folder, asked for P(count) of one picture at a time, by ONNX Runtime and without torch.

The folder is what scripts/export.py writes: `model.onnx` (input `pixels`, uint8 H x W x 3; output `probabilities`,
float32 K, tempered) and `model.json`, which names its counts, its calibration and its version.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy
import onnxruntime
from numpy import ndarray

from stocktake.calibration import Calibration, conformal_sets, mismatch_score
from stocktake.image_statistics import TrainingImages
from stocktake.images import read_pixels
from stocktake.serving.unlike import warning
from stocktake.storage import is_s3, local_path

FORMAT_VERSION = 1  # of model.json and of the graph's inputs and outputs
GRAPH_NAME, CARD_NAME, MODEL_NAME = "model.onnx", "README.md", "model.json"
INPUT, OUTPUT = "pixels", "probabilities"
# The key under which a tensor names its file (TensorProto.external_data in onnx.proto), behind its length. A tensor's
# numbers hold these bytes by chance once in a hundred thousand million models.
EXTERNAL_DATA = (b"\x08location", b"\x00location")  # not as one expression, which takes twice as long
TRAINING_IMAGES = "training_images"  # what they were like; older exports do not say
LARGE = 3 * 4_000_000  # numbers of a picture after which ONNX Runtime gives its memory back: 400 MB after 50 megapixels
REQUIRED = ("format_version", "version", "counts", "calibration", "sha256")


class ModelFolderError(ValueError):
    """A folder that is no whole exported model; the message names the file and the cure."""


@dataclass(frozen=True)
class Answer:
    """What there is to say of one picture.

    Attributes:
        count: The most likely count.
        probabilities: P(count) of every count that the model knows, tempered; they sum to 1.
        conformal_set: The counts that cannot be ruled out, rising; the sets of `calibration.coverage` of all pictures
            hold the record's count. Never empty.
        mismatch_score: 0 to 1, how unlikely the record's count is given the photo: 1 - P(record), by which records are
            ranked for a recount (`stocktake.calibration.mismatch_score` says why). `None` where no record was named.
        verdict: All of this in one sentence.
        model_version: Of the model that said so.
        milliseconds: From the picture's bytes to this answer.
        warning: In what the picture is unlike all that the model has seen, so that the rest means little; or `None`.
    """

    count: int
    probabilities: dict[int, float]
    conformal_set: list[int]
    mismatch_score: float | None
    verdict: str
    model_version: str
    milliseconds: float
    warning: str | None = None


class Predictor:
    """An exported model, ready to be asked; several threads may ask at once."""

    def __init__(self, session: onnxruntime.InferenceSession, model: dict[str, Any]):
        """
        Args:
            session: Of the folder's model.onnx.
            model: What its model.json holds.
        """
        self.session, self.model = session, model
        self.counts: list[int] = model["counts"]
        self.version: str = model["version"]
        self.calibration = Calibration.from_dict(model["calibration"])
        told = model.get(TRAINING_IMAGES)
        self.training_images = None if told is None else TrainingImages.from_dict(told)

    @classmethod
    def open(cls, folder: str, num_threads: int | None = None) -> Self:
        """Opens the local folder of an exported model.

        Args:
            num_threads: Cores that one picture is counted on; `None` for all that this process may use.

        Raises:
            ModelFolderError: A file is missing, damaged or of another version.
        """
        return cls.open_each(folder, [num_threads])[0]

    @classmethod
    def open_each(cls, folder: str, num_threads: Sequence[int | None]) -> list[Self]:
        """As `open`, once for each number of threads; the files are read and checked once."""
        if is_s3(folder):
            raise ModelFolderError(f"model={folder} is not on this machine. Copy it first: aws s3 sync {folder} model")
        path = local_path(folder)
        model = read_model(path)
        graph = _read_graph(path, model)
        sessions = [_session(path, graph, number) for number in num_threads]
        _check_fit(path, sessions[0], model["counts"])
        return [cls(session, model) for session in sessions]

    def predict(self, picture: bytes, expected_count: int | None = None) -> Answer:
        """Counts the items in a picture.

        Args:
            picture: The bytes of a JPEG, PNG, GIF or WebP file.
            expected_count: What the record says, to be told how far the photo bears it out.

        Raises:
            UndecodableImage: The bytes are no picture to count in.
            ValueError: The model does not know `expected_count`.
        """
        start = time.perf_counter()
        if expected_count is not None and expected_count not in self.counts:
            raise ValueError(
                f"expected_count={expected_count!r} is none of the counts that this model tells apart: {self.counts}. "
                "Leave it out to have the picture counted alone."
            )
        pixels_HW3 = read_pixels(picture)
        probabilities_K = self.probabilities(pixels_HW3)
        in_set_K = conformal_sets(probabilities_K[None], self.calibration.threshold)[0]
        conformal_set = [count for count, is_in in zip(self.counts, in_set_K, strict=True) if is_in]
        count = self.counts[int(probabilities_K.argmax())]
        score = None
        if expected_count is not None:
            recorded_N = numpy.array([self.counts.index(expected_count)])
            score = float(mismatch_score(probabilities_K[None], recorded_N)[0])
        by_count = dict(zip(self.counts, probabilities_K.tolist(), strict=True))
        return Answer(
            count=count,
            probabilities=by_count,
            conformal_set=conformal_set,
            mismatch_score=score,
            verdict=_verdict(count, by_count, conformal_set, expected_count),
            model_version=self.version,
            warning=warning(pixels_HW3, self.training_images),
            milliseconds=(time.perf_counter() - start) * 1000,
        )

    def probabilities(self, pixels_HW3: ndarray) -> ndarray:
        """Returns P(count) of a decoded picture, `probabilities_K`, float32, tempered; `pixels_HW3` are uint8."""
        options = None
        if pixels_HW3.size > LARGE:
            options = onnxruntime.RunOptions()
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return self.session.run([OUTPUT], {INPUT: pixels_HW3}, options)[0]


def _verdict(count: int, probabilities: dict[int, float], conformal_set: list[int], expected: int | None) -> str:
    seen = f"{count} {'item' if count == 1 else 'items'} ({probabilities[count]:.0%})"
    if expected is None:
        return f"Most likely {seen}; not ruled out: {_listed(conformal_set)}."
    if expected == count:
        return f"Agrees with the record of {expected}: most likely {seen}."
    if expected in conformal_set:
        return f"The record of {expected} is possible ({probabilities[expected]:.0%}), though {seen} is likelier."
    return f"The record of {expected} is unlikely ({probabilities[expected]:.0%}), recount: most likely {seen}."


def _listed(counts: list[int]) -> str:
    *others, last = map(str, counts)
    return f"{', '.join(others)} or {last}" if others else last


def read_model(folder: Path) -> dict[str, Any]:
    """Returns what the model.json of a folder holds.

    Raises:
        ModelFolderError: It is missing, damaged, or of another version.
    """
    path = folder / MODEL_NAME
    cure = "Export the model again: python scripts/export.py checkpoint=<run>/checkpoints/best.ckpt"
    try:
        model = json.loads(path.read_bytes())
    except OSError as error:  # export writes model.json last
        raise ModelFolderError(f"{path} cannot be read ({error.strerror}), so this is no whole model. {cure}") from None
    except ValueError as error:
        raise ModelFolderError(f"{path} is damaged ({error}). {cure}") from None
    missing = [key for key in REQUIRED if not isinstance(model, dict) or key not in model]
    if missing:
        raise ModelFolderError(f"{path} lacks {', '.join(missing)}. {cure}")
    if model["format_version"] != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path} is of format {model['format_version']!r}; this Stocktake reads format {FORMAT_VERSION}. {cure}"
        )
    try:
        calibration = Calibration.from_dict(model["calibration"])
        if model.get(TRAINING_IMAGES) is not None:
            TrainingImages.from_dict(model[TRAINING_IMAGES])
    except (TypeError, ValueError) as error:
        raise ModelFolderError(f"{path}: {error} {cure}") from None
    if not isinstance(model["version"], str) or not model["version"].isprintable() or not model["version"]:
        raise ModelFolderError(f"{path}: version={model['version']!r} is no line of text. {cure}")
    if calibration.counts != model["counts"]:
        raise ModelFolderError(f"{path}: counts={model['counts']!r} are not its calibration's. {cure}")
    return model


def _read_graph(folder: Path, model: dict[str, Any]) -> bytes:
    path = folder / GRAPH_NAME
    cure = "Copy the whole folder again, or export the model again."
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read ({error.strerror}). {cure}") from None
    if hashlib.sha256(graph).hexdigest() != model["sha256"]:
        raise ModelFolderError(f"{path} ({len(graph)} bytes) is not the file that {MODEL_NAME} describes. {cure}")
    if any(name in graph for name in EXTERNAL_DATA):
        raise ModelFolderError(
            f"{path} names other files to read its tensors from, which could be any on this machine. It is refused: "
            "scripts/export.py writes one file that holds them all."
        )
    return graph


def _session(folder: Path, graph: bytes, num_threads: int | None) -> onnxruntime.InferenceSession:
    path = folder / GRAPH_NAME
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or num_cores()
    # Threads that wait in a loop would take the cores from other pictures that are counted at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # not whatever its first bytes say
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base class but this
        reason = " ".join(str(error).split())[:300]
        raise ModelFolderError(f"{path} cannot be run by ONNX Runtime {onnxruntime.__version__}: {reason}") from None


def _check_fit(folder: Path, session: onnxruntime.InferenceSession, counts: list[int]) -> None:
    """Has a grey picture counted, so that a graph of other inputs, outputs or counts is told before anybody asks.

    Raises:
        ModelFolderError: The graph is not one that this model.json describes.
    """
    path = folder / GRAPH_NAME
    cure = "Export the model again: python scripts/export.py checkpoint=<run>/checkpoints/best.ckpt"
    try:
        probabilities_K = session.run([OUTPUT], {INPUT: numpy.full((32, 48, 3), 128, numpy.uint8)})[0]
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFolderError(f"{path} does not count a grey picture given as {INPUT}: {reason}. {cure}") from None
    shape = numpy.shape(probabilities_K)
    if shape != (len(counts),):
        raise ModelFolderError(f"{path} gives {OUTPUT} of shape {shape}, and {MODEL_NAME} says counts={counts}. {cure}")
    if not (numpy.min(probabilities_K) >= 0 and abs(numpy.sum(probabilities_K) - 1) < 1e-3):  # NaN, too
        raise ModelFolderError(f"{path} gives {numpy.asarray(probabilities_K).tolist()}, no {OUTPUT}. {cure}")


def num_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
