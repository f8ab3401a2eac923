"""Whether a window of answers is like those on the baseline's images, or more unlike them than chance makes it.

Axes: M images of the baseline, N answers of the window, G blocks of neighboring bins, B bars of a histogram, S draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy import ndarray

from stocktake.metrics.bootstrap import draw_block_weights
from stocktake.metrics.estimate import Estimate
from stocktake.seeding import generator

NUM_BARS = 10  # deciles of the baseline, as is usual for the PSI
NUM_DRAWS = 2000
FALSE_ALARMS = 0.01  # share of the quiet windows in which chance alone takes any figure past its limit
LEAST_BLOCKS = 10  # of a drawn window; fewer are too coarse to have its size, and images are drawn one by one
LEAST_LIMIT = 0.02  # two images in a hundred that moved are no drift, however many there are to show it


@dataclass(frozen=True)
class Shift:
    """By how much one figure of a window is unlike the baseline's, and what chance may make of it.

    Attributes:
        psi: Population stability index over the baseline's deciles, see `psi`.
        psi_limit: What chance passes in no figure of a window of this size, but for a share of `FALSE_ALARMS`.
        ks: Kolmogorov and Smirnov's distance, see `ks`.
        ks_limit: As `psi_limit`, and so is the last.
        smd: Standardized mean difference, see `smd`.
    """

    psi: float
    psi_limit: float
    ks: float
    ks_limit: float
    smd: float
    smd_limit: float

    @property
    def is_drift(self) -> bool:
        return self.times_limit > 1

    @property
    def times_limit(self) -> float:
        """The largest of the three in units of its limit."""
        return max(self.psi / self.psi_limit, self.ks / self.ks_limit, self.smd / self.smd_limit)


def bar_edges(values_M: ndarray) -> ndarray:
    """Returns the rising upper ends of the B - 1 lower bars of a baseline's histogram; the last bar has none.

    They are its deciles. A value that fills a tenth by itself, such as a count or the width of all images, gets a bar
    of its own, so that what lies below it is seen, too.
    """
    deciles, times = numpy.unique(
        numpy.quantile(values_M, numpy.linspace(0, 1, NUM_BARS + 1)[1:-1], method="inverted_cdf"), return_counts=True
    )
    return numpy.unique([*deciles, *numpy.nextafter(deciles[times > 1], -numpy.inf)])


def bars(values_N: ndarray, edges: ndarray) -> ndarray:
    """Returns how many values lie in each of the B bars."""
    return numpy.bincount(numpy.searchsorted(edges, values_N), minlength=len(edges) + 1)


def psi(baseline_B: ndarray, window_B: ndarray) -> ndarray:
    """Returns the population stability index: the sum of (q - p) ln(q / p) over the bars; of shape (...).

    Lewis 1994, An Introduction to Credit Scoring; it is the sum of both Kullback-Leibler divergences (Jeffreys 1946).
    p and q are the shares of the baseline's and the window's images, from their numbers and half an image more in each
    bar, as an empty one would make it infinite.
    """
    p, q = (bars_B + 0.5 for bars_B in (numpy.asarray(baseline_B, float), numpy.asarray(window_B, float)))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return ((q - p) * numpy.log(q / p)).sum(-1)


def ks(baseline_M: ndarray, window_N: ndarray) -> float:
    """Returns the largest distance between both cumulative shares (Smirnov 1939; scipy.stats.ks_2samp)."""
    values = numpy.concatenate([baseline_M, window_N])
    shares = [
        numpy.searchsorted(numpy.sort(sample), values, "right") / len(sample) for sample in (baseline_M, window_N)
    ]
    return float(numpy.abs(shares[0] - shares[1]).max())


def smd(baseline_M: ndarray, window_N: ndarray) -> float:
    """Returns how far the means lie apart, in standard deviations of the baseline's values.

    That is Glass's delta (Glass 1976, Primary, Secondary, and Meta-Analysis of Research). A weak counter hardly moves
    any one answer when bins hold other counts, but it moves all of them the same way, which a mean shows before a
    histogram does (benchmarks/bench_drift.py). Values outside the baseline's count as its ends, else one huge photo
    would be a drift; where all of the baseline's are equal, it is 0.
    """
    deviation = float(baseline_M.std())
    if not deviation:
        return 0.0
    within_N = window_N.clip(baseline_M.min(), baseline_M.max())
    return abs(float(within_N.mean()) - float(baseline_M.mean())) / deviation


def measure_shifts(
    baseline: Mapping[str, ndarray],
    window: Mapping[str, ndarray],
    groups_M: ndarray,
    false_alarms: float = FALSE_ALARMS,
) -> dict[str, Shift]:
    """Returns the shift of each figure that both have; a value that is NaN was not measured and has no say.

    Args:
        baseline: Each figure of the baseline's images.
        window: The same of the window's answers.
        groups_M: Which block of neighboring bins each of the baseline's images is of.
        false_alarms: In so large a share of the windows that are like the baseline, any figure may pass its limit.
    """
    names = [name for name in baseline if name in window]
    num_answers = max(len(window[name]) for name in names)
    limits = chance_limits({name: baseline[name] for name in names}, groups_M, num_answers, false_alarms)
    return measure_distances(baseline, window, limits)


def measure_distances(
    baseline: Mapping[str, ndarray], window: Mapping[str, ndarray], limits: Mapping[str, Sequence[float]]
) -> dict[str, Shift]:
    """As `measure_shifts`, of the figures that have limits: of PSI, KS distance and means."""
    shifts = {}
    for name, (psi_limit, ks_limit, smd_limit) in limits.items():
        both = [values[numpy.isfinite(values)] for values in (baseline[name], window[name])]
        if min(map(len, both)):
            edges = bar_edges(both[0])
            found = float(psi(*(bars(values, edges) for values in both)))
            shifts[name] = Shift(found, psi_limit, ks(*both), ks_limit, smd(*both), smd_limit)
    return shifts


def chance_limits(
    baseline: Mapping[str, ndarray], groups_M: ndarray, num_answers: int, false_alarms: float = FALSE_ALARMS
) -> dict[str, tuple[float, float, float]]:
    """Returns of each figure the PSI, KS distance and SMD that chance does not pass in a window of so many answers.

    Both sides are drawn anew from the baseline, in whole blocks: the window, and the baseline itself, which is a sample
    as well. Each distance is taken in units of the 95th percentile of its draws, and one factor is found that the
    largest of all figures passes in a share of `false_alarms` (the max-T of Westfall & Young 1993, Resampling-Based
    Multiple Testing, section 2.6). So the share holds for all figures together, however they hang together.
    """
    drawn = [weights_SM.astype(numpy.float32) for weights_SM in _draws(groups_M, num_answers)]
    distances = []
    for values_M in baseline.values():
        known_M = numpy.isfinite(values_M)
        values_M = values_M[known_M]
        weights = drawn if known_M.all() else [weights_SM[:, known_M] for weights_SM in drawn]
        if not len(values_M):
            distances += [numpy.zeros(NUM_DRAWS)] * 3
            continue
        bar_M = numpy.searchsorted(edges := bar_edges(values_M), values_M)
        in_bar_MB = numpy.eye(len(edges) + 1, dtype=numpy.float32)[bar_M]
        distances += [
            psi(*(weights_SM @ in_bar_MB for weights_SM in weights)),
            _ks_of_draws(values_M, *weights),
            _smd_of_draws(values_M, *weights),
        ]
    distances_SD = numpy.stack(distances, axis=1)
    usual_D = numpy.maximum(numpy.quantile(distances_SD, 0.95, axis=0), LEAST_LIMIT)
    factor = numpy.quantile((distances_SD / usual_D).max(1), 1 - false_alarms)
    limits_D = numpy.maximum(factor * usual_D, LEAST_LIMIT).tolist()
    return dict(zip(baseline, zip(limits_D[::3], limits_D[1::3], limits_D[2::3], strict=True), strict=True))


def expected_accuracy(
    confidence_N: ndarray, baseline_confidence_M: ndarray, baseline_hits_M: ndarray, groups_M: ndarray
) -> Estimate:
    """Returns how many of the window's counts are right by the model's own calibrated word, without any true count.

    That is the mean probability of the most likely count, the confidence-based performance estimation (CBPE) of
    NannyML (https://nannyml.readthedocs.io/en/stable/how_it_works/performance_estimation.html). The interval has the
    chance of so many throws, sum p (1 - p) / N^2, how far the word and the truth lie apart on the baseline, and the
    chance in that. Without the second, a model that thinks too well of itself was right as often as its interval said
    in 82 of 100 windows of 500 real bins (benchmarks/bench_drift.py).
    It holds while the images are of the baseline's kind: of others the model's word may be worth nothing.
    """
    _, group_M = numpy.unique(groups_M, return_inverse=True)
    gaps_G = numpy.bincount(group_M, baseline_hits_M - baseline_confidence_M)
    variance = (confidence_N * (1 - confidence_N)).sum() / len(confidence_N) ** 2
    variance += (gaps_G.sum() ** 2 + (gaps_G**2).sum()) / len(groups_M) ** 2
    value, half = confidence_N.mean(), 1.959963984540054 * numpy.sqrt(variance)
    return Estimate.of(value, max(0.0, value - half), min(1.0, value + half))


def _draws(groups_M: ndarray, num_answers: int) -> tuple[ndarray, ndarray]:
    """Returns how often each of the baseline's images is in each drawn baseline and in each drawn window."""
    names, group_M = numpy.unique(groups_M, return_inverse=True)
    baseline_SM = draw_block_weights(len(names), "drift", num_samples=NUM_DRAWS)[:, group_M]
    draw, num_blocks = generator("drift", num_answers), round(num_answers * len(names) / len(groups_M))
    if num_blocks >= LEAST_BLOCKS:
        return baseline_SM, draw.multinomial(num_blocks, [1 / len(names)] * len(names), NUM_DRAWS)[:, group_M]
    return baseline_SM, draw.multinomial(num_answers, [1 / len(groups_M)] * len(groups_M), NUM_DRAWS)


def _ks_of_draws(values_M: ndarray, drawn_baseline_SM: ndarray, drawn_window_SM: ndarray) -> ndarray:
    order = numpy.argsort(values_M, kind="stable")
    is_last = numpy.append(numpy.diff(values_M[order]) != 0, True)  # of equal values
    shares = []
    for weights_SM in (drawn_baseline_SM, drawn_window_SM):
        up_to = weights_SM[:, order].cumsum(1)
        shares.append(up_to[:, is_last] / numpy.maximum(up_to[:, -1:], 1))
    return numpy.abs(shares[0] - shares[1]).max(1)


def _smd_of_draws(values_M: ndarray, drawn_baseline_SM: ndarray, drawn_window_SM: ndarray) -> ndarray:
    deviation = values_M.std()
    if not deviation:
        return numpy.zeros(len(drawn_window_SM))
    scaled_M = ((values_M - values_M.mean()) / deviation).astype(numpy.float32)
    means = [
        weights_SM @ scaled_M / numpy.maximum(weights_SM.sum(1), 1)
        for weights_SM in (drawn_baseline_SM, drawn_window_SM)
    ]
    return numpy.abs(means[0] - means[1])
