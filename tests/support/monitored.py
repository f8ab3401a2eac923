"""A small exported model with the baseline of photos that were drawn for it, and logs of what it answered."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy
import onnx
import pyarrow
from PIL import Image
from served import COUNTS, export

from stocktake.onnx_export.baseline import measure_baseline
from stocktake.serving.baseline import BASELINE, BASELINE_NAME, describe_baseline
from stocktake.serving.logged_answer import LoggedAnswer, measure_reduced, reduced
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder

SIZE_PX = (48, 36)


def photo(number: int, brightness: float | None = None) -> numpy.ndarray:
    """Returns a noisy gray image, uint8 H x W x 3; its number alone decides how bright it is."""
    draw = numpy.random.default_rng(number)
    level = draw.uniform(30, 220) if brightness is None else brightness
    luma_HW = draw.normal(level, 12, (SIZE_PX[1], SIZE_PX[0])).clip(0, 255).astype(numpy.uint8)
    return numpy.repeat(luma_HW[..., None], 3, axis=2)


def export_with_baseline(folder: pathlib.Path, num_images: int = 300) -> pathlib.Path:
    """Writes what scripts/export.py writes; the records of the baseline agree with the model as often as it says."""
    export(folder)
    photos = folder / "photos"
    photos.mkdir()
    for number in range(num_images):
        Image.fromarray(photo(number)).save(photos / f"{number}.png")
    rows = pyarrow.table(
        {
            "key": [f"{number}.png" for number in range(num_images)],
            "count": [COUNTS[number % len(COUNTS)] for number in range(num_images)],
            "group": [f"{number // 3}" for number in range(num_images)],
        }
    )
    baseline = measure_baseline(onnx.load(folder / "model.onnx"), Folder(str(photos)), rows, COUNTS)
    draw = numpy.random.default_rng(0)
    labels_M = numpy.array([draw.choice(len(COUNTS), p=row / row.sum()) for row in baseline.probabilities_MK])
    baseline = replace(baseline, labels_M=labels_M)
    content = baseline.to_bytes()
    (folder / BASELINE_NAME).write_bytes(content)
    model = json.loads((folder / "model.json").read_text())
    model[BASELINE] = describe_baseline(content, baseline)
    model["checkpoint_sha256"] = hashlib.sha256(b"").hexdigest()
    (folder / "model.json").write_text(json.dumps(model))
    return folder


def logged(
    model: pathlib.Path, numbers: Sequence[int], change: Callable[[numpy.ndarray], numpy.ndarray] = lambda image: image
) -> list[LoggedAnswer]:
    """Returns what the server would log of these photos."""
    predictor, answers = Predictor.open(str(model), num_threads=1), []
    for number in numbers:
        pixels_HW3 = change(photo(number))
        probabilities_K = predictor.probabilities(pixels_HW3)
        height_px, width_px, _ = pixels_HW3.shape
        answers.append(
            LoggedAnswer(
                time=f"2026-03-02T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}+00:00",
                request_id=f"request-{number}",
                model_version=predictor.version,
                status=200,
                latency_s=0.01,
                bytes=1000,
                count=COUNTS[int(probabilities_K.argmax())],
                probabilities=dict(zip(COUNTS, probabilities_K.tolist(), strict=True)),
                **measure_reduced(reduced(pixels_HW3), width_px, height_px),
            )
        )
    return answers


def write_log(folder: pathlib.Path, answers: Sequence[LoggedAnswer], *more: str) -> pathlib.Path:
    """Writes a log of one file, with further lines behind the answers."""
    path = folder / "2026-03-02" / "000000-00000000.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in [*(answer.to_line() for answer in answers), *more]))
    return folder
