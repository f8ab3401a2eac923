"""Uncertainty of a figure: blocks of neighboring bins drawn anew, and the interval of what the draws say.

Images of one block (neighboring bins) are alike, so it is whole blocks that are drawn, with replacement. As many
blocks and the same purpose always give the same draws: figures of two models on the same blocks are paired, and
their difference is what the two would differ by on other blocks.

Axes: G blocks, S samples.
"""

import warnings
from collections.abc import Sequence

import numpy
from numpy import ndarray

from stocktake.seeding import generator

NUM_SAMPLES = 2000  # of a figure that is a function of sums over the blocks
NUM_ROW_SAMPLES = 500  # of one that has to be computed from the images, which takes longer


def draw_block_weights(num_blocks: int, *purpose: str | int, num_samples: int = NUM_SAMPLES) -> ndarray:
    """Returns how often each block was drawn, `weights_SG`; a figure of sums over blocks is one product with it."""
    return generator(*purpose).multinomial(num_blocks, [1 / num_blocks] * num_blocks, num_samples)


def draw_rows(groups: Sequence[str], *purpose: str | int, num_samples: int = NUM_ROW_SAMPLES) -> list[ndarray]:
    """Returns the rows of each sample, where a figure needs the images themselves.

    Args:
        groups: The name of every image's block.
    """
    names, group_N = numpy.unique(numpy.asarray(groups), return_inverse=True)
    rows_G = [numpy.flatnonzero(group_N == g) for g in range(len(names))]
    draw = generator(*purpose, len(names))
    return [
        numpy.concatenate([rows_G[g] for g in draw.integers(len(names), size=len(names))]) for _ in range(num_samples)
    ]


def percentile_interval(samples: ndarray) -> tuple[ndarray, ndarray]:
    """Returns the 2.5th and the 97.5th percentile of the samples along the first axis.

    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. A sample that is NaN has no say.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a count that no sample predicts has no percentile
        low, high = numpy.nanpercentile(samples, [2.5, 97.5], axis=0)
    return low, high


def basic_interval(value: float, drawn: ndarray | Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % basic bootstrap interval (Davison & Hinkley 1997, section 2.4).

    The percentiles of the draws would be too high for the calibration error, which resampling pushes up, so that its
    own value could lie outside. Where every draw is above a small error, the interval ends at the error itself.
    """
    low, high = numpy.percentile(drawn, [2.5, 97.5])
    return float(numpy.minimum(value, 2 * value - high)), float(numpy.maximum(value, 2 * value - low))  # NaN stays


def share_interval(share: float, num_groups: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share that is the same in all of so many groups, where resampling shows nothing.

    Of none, or of all: what Clopper & Pearson 1934, The use of confidence or fiducial limits illustrated in the case
    of the binomial, say exactly. Between: Wilson 1927, Probable inference, the law of succession, and statistical
    inference. Images of one group are alike, so a group is one trial, however many images it has.
    """
    if share in (0, 1):
        margin = 1 - 0.025 ** (1 / num_groups)
        return (0.0, margin) if share == 0 else (1 - margin, 1.0)
    square = 1.959963984540054**2 / num_groups  # of the normal distribution's 97.5th percentile
    center = (share + square / 2) / (1 + square)
    half = numpy.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return float(center - half), float(center + half)
