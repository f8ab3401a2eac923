"""Where a model errs: sentences, plots and numbers about quarters of the bins, cut by what their photos are like."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stocktake.report.calibration import CURE
from stocktake.report.plots import draw_bars
from stocktake.report.text import Estimate

KEYS = ("from", "to", "num_images", "mean_count", "accuracy", "mae", "rest_accuracy")
NO_PRODUCTS = (
    "By the number of distinct products the bins could not be cut, because no record of theirs is known: "
    "run scripts/prepare.py again, with a source that has the records."
)
FEWEST_BINS = 30  # that a sentence speaks of
NONE_STANDS_OUT = "No slice is clearly worse: the interval of each reaches into that of the other bins."


@dataclass(frozen=True)
class Feature:
    """What bins are cut by: its title, what its numbers are, how one is written, and a sentence's words for them."""

    title: str
    scale: str
    write: Callable[[float], str]
    where: str


FEATURES = {
    "brightness": Feature(
        "Brightness", "mean luma, 0 to 255", "{:.0f}".format, "the photo is this bright: {} (mean luma, 0 to 255)"
    ),
    "sharpness": Feature(
        "Sharpness",
        "variance of the Laplacian",
        "{:,.0f}".format,
        "the photo is this sharp: {} (variance of the Laplacian, low is blurred)",
    ),
    "strap_density": Feature(
        "Strap density",
        "% of the pixels on the net's threads",
        lambda share: f"{100 * share:.1f}",
        "{}\u202f% of the pixels lie on the net's threads",
    ),
    "num_products": Feature(
        "Distinct products", "products in the record", "{:.0f}".format, "the record lists {} distinct products"
    ),
}


@dataclass(frozen=True)
class Slice:
    """Some of the bins, and how well they are counted; `rest` is the accuracy on the others."""

    feature: Feature
    limits: str
    num_bins: int
    mean_count: float
    accuracy: Estimate
    mae: Estimate
    rest: Estimate

    @classmethod
    def read(cls, name: str, measured: Mapping[str, Any]) -> "Slice":
        """From one entry of `metrics["slices"][name]`.

        Raises:
            ValueError: A key is missing.
        """
        if missing := [key for key in KEYS if key not in measured]:
            raise ValueError(f"A slice of slices.{name} lacks {missing}. {CURE}")
        feature = FEATURES[name]
        ends = list(dict.fromkeys(feature.write(measured[end]) for end in ("from", "to")))
        return cls(
            feature,
            "–".join(ends),
            measured["num_images"],
            measured["mean_count"],
            Estimate.read(measured["accuracy"]),
            Estimate.read(measured["mae"], is_share=False),
            Estimate.read(measured["rest_accuracy"]),
        )

    @property
    def is_clearly_worse(self) -> bool:
        is_known = bool(self.accuracy.interval and self.rest.interval) and self.num_bins >= FEWEST_BINS
        return is_known and self.accuracy.high < self.rest.low


def describe_slices(
    slices: Mapping[str, Sequence[Mapping[str, Any]]], accuracy: Mapping[str, float | None], num_bins: int
) -> dict[str, Any]:
    """What the template shows of `metrics["slices"]`: `sentences`, `plots` and `tables`, the last two by title.

    Args:
        slices: Of the form that metrics.json holds; values and ends of intervals may be None.
        accuracy: On all bins, as metrics.json holds it.
        num_bins: How many bins that is.

    Raises:
        ValueError: A slice lacks a key, or the bins are cut by what this page does not know.
    """
    if unknown := [name for name in slices if name not in FEATURES]:
        raise ValueError(f"slices has {unknown}, but this page knows {list(FEATURES)}. {CURE}")
    tables = {
        feature.title: [Slice.read(name, measured) for measured in slices[name]]
        for name, feature in FEATURES.items()
        if slices.get(name)
    }
    overall = Estimate.read(accuracy).value
    plots = {
        title: draw_bars(
            {f"{part.limits}\n{part.num_bins:,} bins": part.accuracy for part in parts},
            title,
            parts[0].feature.scale,
            overall,
        )
        for title, parts in tables.items()
    }
    sentences = [_describe_worst([part for parts in tables.values() for part in parts])]
    num_recorded = sum(measured["num_images"] for measured in slices.get("num_products", ()))
    if not num_recorded:
        sentences.append(NO_PRODUCTS)
    elif num_recorded < num_bins:
        sentences.append(f"By products, {num_bins - num_recorded:,} bins are in no slice: their record is missing.")
    return {"sentences": sentences, "plots": plots, "tables": tables}


def _describe_worst(parts: Sequence[Slice]) -> str:
    clearly_worse = [part for part in parts if part.is_clearly_worse]
    if not clearly_worse:
        return NONE_STANDS_OUT
    worst = min(clearly_worse, key=lambda part: part.accuracy.value)
    where = worst.feature.where.format(worst.limits)
    return (
        f"It errs most where {where}. Of those {worst.num_bins:,} bins {worst.accuracy} are exact "
        f"(95\u202f% interval {worst.accuracy.interval}), of the others {worst.rest} ({worst.rest.interval})."
    )
