"""baseline.json of an exported model: what it answers on validation images, to compare later answers with.

It holds the figures of each of so many images instead of their histograms. Windows of any size can so be drawn from it,
the distance of Kolmogorov and Smirnov is exact, and a histogram may have any edges; of 1,000 images it takes 100 kB.

Axes: M images of the baseline, N answers, K counts in rising order.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy
from numpy import ndarray

from stocktake.metrics.drift import chance_limits
from stocktake.serving.logged_answer import DECIMALS, IMAGE_FIGURES

BASELINE_NAME = "baseline.json"
BASELINE = "baseline"  # the key of model.json that names it; older exports lack it
FORMAT_VERSION = 2  # 1 had no limit of the means
WATCHED = 500  # answers that a running server compares


@dataclass(frozen=True)
class Baseline:
    """What a model answers on images like those it was fitted to.

    Attributes:
        counts: The K counts that the model tells apart.
        probabilities_MK: P(count), tempered.
        images: Each of IMAGE_FIGURES of the M images; NaN where one could not be measured.
        labels_M: The record's count of each, as its position among the K.
        groups_M: Number of the block of neighboring bins that each is of.
        limits: Of each figure what chance keeps PSI, KS distance and SMD to in the last WATCHED answers, which a server
            has no time to draw.
    """

    counts: Sequence[int]
    probabilities_MK: ndarray
    images: Mapping[str, ndarray]
    labels_M: ndarray
    groups_M: ndarray
    limits: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def measured(
        cls,
        counts: Sequence[int],
        probabilities_MK: ndarray,
        images: Mapping[str, ndarray],
        labels_M: ndarray,
        groups_M: ndarray,
    ) -> Self:
        """Returns the baseline of these images, with its limits."""
        limits = chance_limits(figures_of(counts, probabilities_MK, images), groups_M, WATCHED)
        return cls(counts, probabilities_MK, images, labels_M, groups_M, limits)

    @property
    def num_images(self) -> int:
        return len(self.labels_M)

    @property
    def figures(self) -> dict[str, ndarray]:
        return figures_of(self.counts, self.probabilities_MK, self.images)

    @property
    def hits_M(self) -> ndarray:
        return self.probabilities_MK.argmax(1) == self.labels_M

    def to_bytes(self) -> bytes:
        columns = {
            "probabilities": self.probabilities_MK.round(DECIMALS).tolist(),
            **{name: [None if numpy.isnan(one) else one for one in self.images[name].tolist()] for name in self.images},
            "label": self.labels_M.tolist(),
            "group": self.groups_M.tolist(),
            "limits": {"num_answers": WATCHED, "figures": dict(self.limits)},
        }
        plain = {"format_version": FORMAT_VERSION, "counts": list(self.counts), "num_images": self.num_images}
        return (json.dumps(plain | columns) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """
        Raises:
            ValueError: It is no baseline of this format; the message goes on from the file's name.
        """
        try:
            plain = json.loads(content)
            if plain["format_version"] not in (1, FORMAT_VERSION):
                raise ValueError(f"of format {plain['format_version']!r}")
            baseline = cls(
                plain["counts"],
                numpy.array(plain["probabilities"], float),
                {name: numpy.array(plain[name], float) for name in IMAGE_FIGURES},
                numpy.array(plain["label"], int),
                numpy.array(plain["group"], int),
                {name: _limits(found) for name, found in plain["limits"]["figures"].items()},
            )
            lengths = {len(column) for column in (*baseline.images.values(), baseline.groups_M)}
            shape = (baseline.num_images, len(baseline.counts))
            if not baseline.limits.keys() <= baseline.figures.keys():
                raise ValueError("limits of unknown figures")
            if not baseline.num_images or lengths != {baseline.num_images} or baseline.probabilities_MK.shape != shape:
                raise ValueError("columns of several lengths")
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"is no baseline that this Stocktake reads ({str(error)[:100]})") from None
        return baseline


def figures_of(counts: Sequence[int], probabilities_NK: ndarray, images: Mapping[str, ndarray]) -> dict[str, ndarray]:
    """Returns all that a window is compared by, each of shape (N,).

    Probabilities have as many decimals as the log has, else one of 0.0000001 would be another than 0.
    """
    probabilities_NK = probabilities_NK.round(DECIMALS)
    return {
        "count": numpy.asarray(counts, float)[probabilities_NK.argmax(1)],
        "expected_count": probabilities_NK @ numpy.asarray(counts, float),
        "confidence": probabilities_NK.max(1),
        **{f"P({count})": probabilities_NK[:, position] for position, count in enumerate(counts)},
        **images,
    }


def _limits(found: Sequence[float]) -> tuple[float, float, float]:
    psi_limit, ks_limit, smd_limit = [*found, math.inf][:3]
    return float(psi_limit), float(ks_limit), float(smd_limit)


def describe_baseline(content: bytes, baseline: Baseline) -> dict[str, Any]:
    """Returns what model.json says of the file."""
    return {
        "name": BASELINE_NAME,
        "sha256": hashlib.sha256(content).hexdigest(),
        "split": "valid",
        "num_images": baseline.num_images,
    }


def check_baseline(content: bytes, model: Mapping[str, Any]) -> Baseline:
    """Returns the baseline that a model.json names.

    Raises:
        ValueError: It is another, or damaged; the message goes on from the file's name.
    """
    if hashlib.sha256(content).hexdigest() != model[BASELINE].get("sha256"):
        raise ValueError("is not the file that model.json describes")
    baseline = Baseline.from_bytes(content)
    if list(baseline.counts) != model["counts"]:
        raise ValueError(f"is of the counts {baseline.counts}, and the model tells {model['counts']} apart")
    return baseline
