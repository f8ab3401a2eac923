"""The files of an exported model: read, checked against each other, and opened by ONNX Runtime.

`model.onnx` (input `pixels`, uint8 H x W x 3; output `probabilities`, float32 K, tempered), and `model.json`, which
names its counts, its calibration and its version.
"""

import errno
import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from stocktake.hardware import num_cores
from stocktake.images.statistics import TrainingImages
from stocktake.metrics.calibration import Calibration
from stocktake.run_folder import check_seal
from stocktake.serving.baseline import BASELINE, BASELINE_NAME, Baseline, check_baseline
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions, join_url

if TYPE_CHECKING:
    import onnxruntime

FORMAT_VERSION = 1  # of model.json and of the graph's inputs and outputs
GRAPH_NAME, CARD_NAME, MODEL_NAME = "model.onnx", "README.md", "model.json"
OWN_FILES = (MODEL_NAME, GRAPH_NAME, CARD_NAME, BASELINE_NAME)
RUN_FOLDER = "model"  # of a run that was exported
INPUT, OUTPUT = "pixels", "probabilities"
# The key under which a tensor names its file (TensorProto.external_data in onnx.proto), behind its length. A tensor's
# numbers hold these bytes by chance once in a hundred thousand million models.
EXTERNAL_DATA = (b"\x08location", b"\x00location")  # not as one expression, which takes twice as long
MODEL_SEAL = "model_sha256"  # of model.json itself, all but this; older exports lack it
TRAINING_IMAGES = "training_images"  # what they were like; older exports do not say
EXPORT_AGAIN = "Export the model again: python scripts/export.py checkpoint=<run>/checkpoints/best.ckpt"
COPY_AGAIN = "Copy the whole folder again, or export the model again."
REQUIRED = ("format_version", "version", "counts", "calibration", "sha256")


class ModelFolderError(ValueError):
    """A folder that is no whole exported model; the message names the file and what to type."""


def read_model(folder: Path) -> dict[str, Any]:
    """Returns what the model.json of a folder holds.

    Raises:
        ModelFolderError: It is missing, damaged, or of another version.
    """
    path = folder / MODEL_NAME
    try:
        content = _read(path)
    except OSError as error:  # export writes model.json last
        raise ModelFolderError(
            f"{path} cannot be read ({error.strerror}), so this is no whole model. {EXPORT_AGAIN}"
        ) from None
    return parse_model(content, str(path))


def parse_model(content: bytes, path: str) -> dict[str, Any]:
    """Returns what a model.json holds.

    Args:
        path: Where it lies, for messages.

    Raises:
        ModelFolderError: It is damaged, or of another version.
    """
    hint = EXPORT_AGAIN
    try:
        model = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} is damaged ({error}). {hint}") from None
    missing = [key for key in REQUIRED if not isinstance(model, dict) or key not in model]
    if missing:
        raise ModelFolderError(f"{path} lacks {', '.join(missing)}. {hint}")
    if model["format_version"] != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path} is of format {model['format_version']!r}; this Stocktake reads format {FORMAT_VERSION}. {hint}"
        )
    try:
        check_seal(model, MODEL_SEAL)
    except ValueError as error:
        raise ModelFolderError(f"{path} {error}. {hint}") from None
    try:
        calibration = Calibration.from_dict(model["calibration"])
        if model.get(TRAINING_IMAGES) is not None:
            TrainingImages.from_dict(model[TRAINING_IMAGES])
    except (TypeError, ValueError) as error:
        raise ModelFolderError(f"{path}: {error} {hint}") from None
    if not isinstance(model["version"], str) or not model["version"].isprintable() or not model["version"]:
        raise ModelFolderError(f"{path}: version={model['version']!r} is no line of text. {hint}")
    if calibration.counts != model["counts"]:
        raise ModelFolderError(f"{path}: counts={model['counts']!r} are not its calibration's. {hint}")
    return model


def _read(path: Path) -> bytes:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, which may never end")
    return path.read_bytes()


def read_graph(folder: Path, model: dict[str, Any]) -> bytes:
    path = folder / GRAPH_NAME
    hint = COPY_AGAIN
    try:
        graph = _read(path)
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read ({error.strerror}). {hint}") from None
    if hashlib.sha256(graph).hexdigest() != model["sha256"]:
        raise ModelFolderError(f"{path} ({len(graph)} bytes) is not the file that {MODEL_NAME} describes. {hint}")
    if any(name in graph for name in EXTERNAL_DATA):
        raise ModelFolderError(
            f"{path} names other files to read its tensors from, which could be any on this machine. It is refused: "
            "scripts/export.py writes one file that holds them all."
        )
    return graph


def read_exported(location: str | None, storage: StorageOptions) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Returns the files of an exported model by their paths in the folder, and what its model.json holds.

    Args:
        location: The folder, or a run that holds one as model/; on disk or in S3.

    Raises:
        ModelFolderError: None is named, there is none, or it is not whole.
    """
    if location is None:
        raise ModelFolderError(
            "model is not set. Type model=runs/demo/latest, or a folder that scripts/export.py wrote."
        )
    folders = [Folder(url, storage) for url in (join_url(location, RUN_FOLDER), location)]
    folder = next((folder for folder in folders if folder.exists(MODEL_NAME)), None)
    if folder is None:
        export = command("scripts/export.py", {"checkpoint": join_url(location, "checkpoints/best.ckpt")})
        raise ModelFolderError(f"model={location} holds no {MODEL_NAME}, nor does its {RUN_FOLDER}/. Type: {export}")
    # Only what belongs to it: whatever else lies beside it, a key or code, is not to be sent and not to be run.
    files = {key: folder.read(key) for key, _ in folder.sizes() if key in OWN_FILES}
    with tempfile.TemporaryDirectory() as copy:
        for key, content in files.items():
            Path(copy, key).parent.mkdir(parents=True, exist_ok=True)
            Path(copy, key).write_bytes(content)
        model = read_model(Path(copy))
        read_graph(Path(copy), model)
    return files, model


def read_baseline(folder: Path, model: dict[str, Any]) -> Baseline | None:
    """Returns the baseline of a folder, `None` in one that was exported before there were any.

    Raises:
        ModelFolderError: It is missing, or not the one that model.json names.
    """
    if not isinstance(model.get(BASELINE), dict):
        return None
    path = folder / BASELINE_NAME
    try:
        return check_baseline(_read(path), model)
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read ({error.strerror}). {COPY_AGAIN}") from None
    except ValueError as error:
        raise ModelFolderError(f"{path} {error}. {COPY_AGAIN}") from None


def open_session(folder: Path, graph: bytes, num_threads: int | None) -> "onnxruntime.InferenceSession":
    import onnxruntime  # here, so that who reads what a model is, such as monitor.py, does without

    path = folder / GRAPH_NAME
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or num_cores()
    # Threads that wait in a loop would take the cores from other images that are counted at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # not whatever its first bytes say
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base class but this
        reason = " ".join(str(error).split())[:300]
        raise ModelFolderError(f"{path} cannot be run by ONNX Runtime {onnxruntime.__version__}: {reason}") from None


def check_fit(folder: Path, session: "onnxruntime.InferenceSession", counts: list[int]) -> None:
    """Has a gray image counted, so that a graph of other inputs, outputs or counts is found before anybody asks.

    Raises:
        ModelFolderError: The graph is not one that this model.json describes.
    """
    path = folder / GRAPH_NAME
    hint = EXPORT_AGAIN
    try:
        gray_HW3 = numpy.full((32, 48, 3), 128, numpy.uint8)
        probabilities_K = numpy.asarray(session.run([OUTPUT], {INPUT: gray_HW3})[0])
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFolderError(f"{path} does not count a gray image given as {INPUT}: {reason}. {hint}") from None
    if probabilities_K.shape != (len(counts),):
        raise ModelFolderError(
            f"{path} gives {OUTPUT} of shape {probabilities_K.shape}, and {MODEL_NAME} says counts={counts}. {hint}"
        )
    if not (probabilities_K.min() >= 0 and abs(probabilities_K.sum() - 1) < 1e-3):  # NaN, too
        raise ModelFolderError(f"{path} gives {probabilities_K.tolist()}, no {OUTPUT}. {hint}")
