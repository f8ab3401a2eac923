"""Single bins on a page: which ones are worth a look, and how their image and prediction are shown."""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy
from PIL import Image, ImageOps

from stocktake.metrics.calibration import apply_temperature, mismatch_score

THUMBNAIL_PX = 480  # large enough to be looked at; the page shows it small, and at a click large
NUM_PRODUCTS_SHOWN = 5

# What the records list of each bin: name, None where the record has none, and quantity of each product.
Records = Mapping[str, Sequence[tuple[str | None, int]]]


@dataclass(frozen=True)
class BinPrediction:
    """One bin: the count of its record, the one that the model finds most likely, and P of every count."""

    image_id: str
    count: int
    predicted: int
    probabilities: Sequence[float]


def tempered(predictions: Sequence[BinPrediction], temperature: float) -> list[BinPrediction]:
    """Returns the predictions with probabilities that can be believed; the most likely count stays."""
    if not predictions:
        return []
    probabilities_NK = apply_temperature(_probabilities(predictions), temperature)
    pairs = zip(predictions, probabilities_NK.tolist(), strict=True)
    return [replace(prediction, probabilities=probabilities) for prediction, probabilities in pairs]


def rank_predictions(
    predictions: Sequence[BinPrediction], counts: Sequence[int]
) -> tuple[list[BinPrediction], list[BinPrediction]]:
    """The mistakes, those with the likeliest record errors first, and the hits, the surest first; then by image id.

    Args:
        predictions: In any order. Untempered ones are ranked worse: the temperature changes the order among images.
        counts: The count that each of the probabilities is about.
    """
    if not predictions:
        return [], []
    labels_N = numpy.array([counts.index(prediction.count) for prediction in predictions])
    scores_N = mismatch_score(_probabilities(predictions), labels_N)
    scores = {prediction.image_id: score for prediction, score in zip(predictions, scores_N.tolist(), strict=True)}
    mistakes = [prediction for prediction in predictions if prediction.predicted != prediction.count]
    hits = [prediction for prediction in predictions if prediction.predicted == prediction.count]
    return (
        sorted(mistakes, key=lambda prediction: (-scores[prediction.image_id], prediction.image_id)),
        sorted(hits, key=lambda prediction: (scores[prediction.image_id], prediction.image_id)),
    )


def _probabilities(predictions: Sequence[BinPrediction]) -> numpy.ndarray:
    return numpy.array([prediction.probabilities for prediction in predictions])


def describe_bin(
    prediction: BinPrediction,
    counts: Sequence[int],
    read_image: Callable[[str], bytes],
    records: Records | None = None,
) -> dict:
    """What the template shows of a bin; `products` is None if `records` are."""
    products = None if records is None else [*map(_readable, records.get(prediction.image_id, ()))]
    probabilities = {count: round(float(p), 4) for count, p in zip(counts, prediction.probabilities, strict=True)}
    return {
        "image_id": prediction.image_id,
        "count": prediction.count,
        "predicted": prediction.predicted,
        "probabilities": probabilities,
        "description": ", ".join(f"P({count}) {100 * p:.0f} %" for count, p in probabilities.items()),
        "products": products and products[:NUM_PRODUCTS_SHOWN],
        "num_more_products": max(0, len(products or ()) - NUM_PRODUCTS_SHOWN),
        "thumbnail": make_thumbnail(prediction.image_id, read_image(prediction.image_id)),
    }


def _readable(product: tuple[str | None, int]) -> tuple[str | None, int]:
    """The public bucket's records write names as HTML, `&reg;` for ®; what comes out is text and is escaped as such."""
    name, quantity = product
    return name and html.unescape(name), quantity


def make_thumbnail(image_id: str, jpeg: bytes) -> str:
    """An image as a `data:` URI, at most THUMBNAIL_PX wide and high, without its metadata.

    Raises:
        ValueError: The bytes are not an image.
    """
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            small = ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:  # Pillow's own errors for unknown and for cut off files
        raise ValueError(
            f"The image of bin {image_id!r} ({len(jpeg)} bytes) cannot be read: {error}. "
            "It has changed since the evaluation; prepare the dataset again with scripts/prepare.py."
        ) from error
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
