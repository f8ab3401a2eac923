"""By how much models differ on the same bins: paired, so that what both find hard does not blur the difference.

Axes: N images, R runs of one recipe that differ by their seed alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy
from numpy import ndarray

from stocktake.evaluation.paired_bootstrap import COMPARED, PairedBootstrap
from stocktake.evaluation.results import Evaluation
from stocktake.metrics.estimate import Difference, Estimate, known
from stocktake.metrics.significance import holm, sign_flip_test


@dataclass(frozen=True)
class Recipe:
    """One or more runs that differ by their seed alone, and stand for their recipe by their mean.

    Attributes:
        evaluations: Folder of each run.
        leakage: On how many of the bins each run's model was trained; None where that is not known.
        measures: COMPARED.
        runs: The same of each run.
    """

    name: str
    evaluations: Sequence[str]
    leakage: Sequence[int | None]
    measures: Mapping[str, Estimate]
    runs: Mapping[str, Sequence[float | None]]

    def to_json(self) -> dict[str, Any]:
        measures = {key: estimate.to_json() | {"runs": self.runs[key]} for key, estimate in self.measures.items()}
        return {
            "name": self.name,
            "evaluations": self.evaluations,
            "leakage": self.leakage,
            "measures": measures,
        }


@dataclass(frozen=True)
class Contrast:
    """A recipe against the first.

    Attributes:
        differences: In COMPARED.
        bins: How many bins `both` count exactly, `only_baseline`, `only_other` or `neither`; means over pairs of runs.
        p_value: Of the difference in accuracy.
        p_value_holm: The same, made larger for the number of comparisons.
    """

    name: str
    differences: Mapping[str, Difference]
    bins: Mapping[str, float]
    p_value: float
    p_value_holm: float

    def to_json(self) -> dict[str, Any]:
        differences = {key: difference.to_json() for key, difference in self.differences.items()}
        return {
            "name": self.name,
            "differences": differences,
            "bins": self.bins,
            "p_value": self.p_value,
            "p_value_holm": self.p_value_holm,
        }


@dataclass(frozen=True)
class Comparison:
    """All of comparison.json: recipes on the same bins, and each but the first, the baseline, against that."""

    created: str
    split: str
    manifest_sha256: str
    counts: Sequence[int]
    num_images: int
    num_blocks: int
    recipes: Sequence[Recipe]
    contrasts: Sequence[Contrast]

    @property
    def baseline(self) -> str:
        return self.recipes[0].name

    @property
    def leakage(self) -> dict[str, Sequence[int | None]]:
        return {recipe.name: recipe.leakage for recipe in self.recipes}

    def to_json(self) -> dict[str, Any]:
        return {
            "created": self.created,
            "split": self.split,
            "manifest_sha256": self.manifest_sha256,
            "counts": self.counts,
            "num_images": self.num_images,
            "num_blocks": self.num_blocks,
            "baseline": self.baseline,
            "recipes": [recipe.to_json() for recipe in self.recipes],
            "comparisons": [contrast.to_json() for contrast in self.contrasts],
        }


def measure_comparison(
    evaluations: Sequence[Evaluation], measured: Sequence[PairedBootstrap], names: Sequence[str]
) -> Comparison:
    """Returns each recipe, and each against the first.

    Args:
        evaluations: Of the same bins.
        measured: The figures of each.
        names: What each is called; those of one name are runs of one recipe, and stand for it by their mean.
    """
    rows = {name: [row for row, other in enumerate(names) if other == name] for name in names}
    means = {name: PairedBootstrap.mean([measured[row] for row in rows[name]]) for name in rows}
    hits = {name: numpy.array([evaluations[row].hits_N for row in rows[name]]) for name in rows}
    baseline, *others = rows
    p_values = [_p_value(hits[baseline], hits[name], evaluations[0].groups) for name in others]
    first = evaluations[0].result
    return Comparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        split=first.subject.split,
        manifest_sha256=first.subject.manifest_sha256,
        counts=first.counts,
        num_images=first.subject.num_images,
        num_blocks=len(set(evaluations[0].groups)),
        recipes=[
            Recipe(
                name,
                [evaluations[row].url for row in rows[name]],
                [evaluations[row].result.subject.leakage for row in rows[name]],
                means[name].estimates(),
                {key: [known(measured[row].values[key]) for row in rows[name]] for key in COMPARED},
            )
            for name in rows
        ],
        contrasts=[
            Contrast(
                name,
                means[name].minus(means[baseline]).differences(),
                _sides(hits[baseline], hits[name]),
                p_value,
                p_value_holm,
            )
            for name, p_value, p_value_holm in zip(others, p_values, holm(p_values), strict=True)
        ],
    )


def _p_value(baseline_RN: ndarray, other_RN: ndarray, groups: Sequence[str]) -> float:
    """Returns the p-value of the difference in accuracy between the means over R runs each, from whole blocks."""
    _, group_N = numpy.unique(numpy.asarray(groups), return_inverse=True)
    # Times the runs of both, so that the differences of the means are whole numbers.
    difference_N = other_RN.sum(0) * len(baseline_RN) - baseline_RN.sum(0) * len(other_RN)
    return sign_flip_test(numpy.bincount(group_N, difference_N).round().astype(int))


def _sides(baseline_RN: ndarray, other_RN: ndarray) -> Mapping[str, float]:
    """Returns how many bins both count exactly, only one of the two, or none; the mean over all pairs of runs."""
    baseline_N, other_N = baseline_RN.mean(0), other_RN.mean(0)
    shares = {
        "both": baseline_N * other_N,
        "only_baseline": baseline_N * (1 - other_N),
        "only_other": (1 - baseline_N) * other_N,
        "neither": (1 - baseline_N) * (1 - other_N),
    }
    return {side: round(float(share_N.sum()), 6) for side, share_N in shares.items()}
