"""Where a model errs: sentences, plots and numbers about quarters of the bins, cut by what their photos are like."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stocktake.evaluation.evaluation_result import Slice
from stocktake.metrics.estimate import Estimate
from stocktake.report.plots import draw_bars

NO_PRODUCTS = (
    "By the number of distinct products the bins could not be cut, because no record of theirs is known: "
    "run scripts/prepare.py again, with a source that has the records."
)
FEWEST_BINS = 30  # that a sentence speaks of
NONE_STANDS_OUT = "No slice is clearly worse: the interval of each reaches into that of the other bins."


@dataclass(frozen=True)
class Feature:
    """What bins are cut by: its title, what its numbers are, how one is written, and a sentence's phrases for them."""

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
class ShownSlice:
    """A slice as the page writes it: with its limits in the feature's own unit."""

    feature: Feature
    limits: str
    measured: Slice

    @classmethod
    def of(cls, feature: Feature, measured: Slice) -> "ShownSlice":
        ends = dict.fromkeys(feature.write(end) for end in (measured.start, measured.end))
        return cls(feature, "–".join(ends), measured)

    @property
    def is_clearly_worse(self) -> bool:
        one = self.measured
        return one.num_images >= FEWEST_BINS and one.accuracy.is_clearly_below(one.rest_accuracy)


def describe_slices(slices: Mapping[str, Sequence[Slice]], accuracy: Estimate, num_bins: int) -> dict[str, Any]:
    """What the template shows of slices: `sentences`, `plots` and `tables`, the last two by title.

    Args:
        slices: By what the bins were cut by.
        accuracy: On all bins.
        num_bins: How many bins that is.
    """
    tables = {
        FEATURES[name].title: [ShownSlice.of(FEATURES[name], one) for one in slices[name]]
        for name in FEATURES
        if slices.get(name)
    }
    plots = {
        title: draw_bars(
            {f"{part.limits}\n{part.measured.num_images:,} bins": part.measured.accuracy for part in parts},
            title,
            parts[0].feature.scale,
            accuracy.value,
        )
        for title, parts in tables.items()
    }
    sentences = [_describe_worst([part for parts in tables.values() for part in parts])]
    num_with_products = sum(one.num_images for one in slices.get("num_products", ()))
    if not num_with_products:
        sentences.append(NO_PRODUCTS)
    elif num_with_products < num_bins:
        sentences.append(
            f"By products, {num_bins - num_with_products:,} bins are in no slice: their record is missing."
        )
    return {"sentences": sentences, "plots": plots, "tables": tables}


def _describe_worst(parts: Sequence[ShownSlice]) -> str:
    clearly_worse = [part for part in parts if part.is_clearly_worse]
    if not clearly_worse:
        return NONE_STANDS_OUT
    worst = min(clearly_worse, key=lambda part: part.measured.accuracy.value or 0.0)
    accuracy, rest = worst.measured.accuracy, worst.measured.rest_accuracy
    return (
        f"It errs most where {worst.feature.where.format(worst.limits)}. Of those {worst.measured.num_images:,} bins "
        f"{accuracy} are exact (95\u202f% interval {accuracy.interval}), of the others {rest} ({rest.interval})."
    )
