"""How far P(count) can be believed: temperature, calibration error, abstention, sets of counts, mismatch.

All works on P(count), not on logits, so it fits every head, and needs nothing but numpy, so a server can use it.

Axes: N images, K counts in rising order, B bins of confidence, which is the probability of the most likely count.
`probabilities_NK` are floats, every row summing to 1, and `classes_N` integers: the record's count as its position
among the K. What is not of that kind raises a ValueError that names it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy
from numpy import ndarray

NUM_BINS = 15  # as in Guo et al. 2017


def apply_temperature(probabilities_NK: ndarray, temperature: float) -> ndarray:
    """Returns P(count)^(1/T), renormalized, float64: above 1 softens, below 1 sharpens, the order of the counts stays.

    For a softmax head this is softmax(logits / T) (Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 9) of
    all counts that have a probability of at least 1e-12.
    """
    _require(temperature=temperature)
    logs_NK = _logs(_checked(probabilities_NK))
    powers_NK = numpy.exp((logs_NK - logs_NK.max(1, keepdims=True)) / temperature)
    return powers_NK / powers_NK.sum(1, keepdims=True)


def fit_temperature(probabilities_NK: ndarray, classes_N: ndarray) -> float:
    """Returns the temperature, from 0.05 to 20, at which the records are most likely (Guo et al. 2017, section 4.2).

    The negative log-likelihood is convex in 1/T; where its slope is 0, the mean log-probability that the tempered
    model expects is that of the records. Bisection on log T finds this, or the nearer end (0.05 if all are right).
    """
    logs_NK = _logs(_checked_pair(probabilities_NK, classes_N))
    recorded = _at(logs_NK, classes_N).mean()
    temperature, low, high = 1.0, 0.05, 20.0
    for _ in range(60):  # halved so often, the range is as narrow as a float can be
        temperature = math.sqrt(low * high)
        expected = (apply_temperature(probabilities_NK, temperature) * logs_NK).sum(1).mean()
        low, high = (temperature, high) if expected > recorded else (low, temperature)
    return temperature


def calibration_metrics(probabilities_NK: ndarray, classes_N: ndarray) -> dict[str, float]:
    """Returns the figures that are one number each; less is better in all.

    `negative_log_likelihood` is the mean of -ln P(record), `brier_score` the mean squared distance from the truth,
    summed over the counts, 0 to 2 (Brier 1950, Verification of forecasts expressed in terms of probability, eq. 2).
    """
    probabilities_NK = _checked_pair(probabilities_NK, classes_N)
    truth_NK = numpy.eye(probabilities_NK.shape[1])[classes_N]
    return {
        "negative_log_likelihood": float(-_at(_logs(probabilities_NK), classes_N).mean()),
        "brier_score": float(((probabilities_NK - truth_NK) ** 2).sum(1).mean()),
        "expected_calibration_error": expected_calibration_error(probabilities_NK, classes_N),
        "area_under_risk_coverage": risk_coverage(probabilities_NK, classes_N)[2],
    }


def reliability(probabilities_NK: ndarray, classes_N: ndarray) -> dict[str, ndarray]:
    """Returns how often the most likely count is right, beside how likely it was said to be (a reliability diagram).

    The B = 15 bins are equally wide, ((b - 1)/B, b/B] for b in 1..B (Guo et al. 2017, section 2). Of shape (B,):
    `confidence` and `accuracy`, means over the images of a bin and NaN in an empty one, and `num_images`.
    """
    probabilities_NK = _checked_pair(probabilities_NK, classes_N)
    confidence_N, hit_N = probabilities_NK.max(1), probabilities_NK.argmax(1) == classes_N
    bin_N = numpy.searchsorted(numpy.linspace(0, 1, NUM_BINS + 1)[1:-1], confidence_N)
    num_images = numpy.bincount(bin_N, minlength=NUM_BINS)
    with numpy.errstate(invalid="ignore"):
        confidence, accuracy = (numpy.bincount(bin_N, x_N, NUM_BINS) / num_images for x_N in (confidence_N, hit_N))
    return {"confidence": confidence, "accuracy": accuracy, "num_images": num_images}


def expected_calibration_error(probabilities_NK: ndarray, classes_N: ndarray) -> float:
    """Returns |accuracy - confidence| of each bin of `reliability`, averaged over the images (Guo et al., equation 3).

    Chance alone keeps it above 0, the more so the fewer the images: compare models on the same images only.
    """
    bins = reliability(probabilities_NK, classes_N)
    return float(numpy.nansum(bins["num_images"] * abs(bins["accuracy"] - bins["confidence"])) / len(classes_N))


def risk_coverage(probabilities_NK: ndarray, classes_N: ndarray) -> tuple[ndarray, ndarray, float]:
    """Returns the share of wrong counts if only the most confident images are answered and a person counts the others.

    Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500, section 2; the area is the AURC of Geifman, Uziel &
    El-Yaniv 2019, https://arxiv.org/abs/1805.08206: the mean of the risk over the N coverages. Images of equal
    confidence share their errors evenly, so the order in which they come does not matter. Returns `coverage_N` (1/N,
    2/N, ..., 1), `risk_N` and the area, which is the error rate if confidence says nothing.
    """
    probabilities_NK = _checked_pair(probabilities_NK, classes_N)
    missed_N = probabilities_NK.argmax(1) != classes_N
    _, tie_N, sizes = numpy.unique(-probabilities_NK.max(1), return_inverse=True, return_counts=True)
    num_counted_N = numpy.arange(1, len(missed_N) + 1)
    risk_N = numpy.repeat(numpy.bincount(tie_N, missed_N) / sizes, sizes).cumsum() / num_counted_N
    return num_counted_N / num_counted_N[-1], risk_N, float(risk_N.mean())


def conformal_threshold(probabilities_NK: ndarray, classes_N: ndarray, coverage: float) -> float:
    """Returns how likely a count must be to belong into an image's set, for `coverage` of the sets to hold the record.

    Split conformal prediction (Angelopoulos & Bates 2021, https://arxiv.org/abs/2107.07511, section 1) with the score
    1 - P(record), which makes the smallest sets (Sadinle et al. 2019, https://arxiv.org/abs/1609.00451): the
    ceil((N + 1) coverage)-th largest P(record). A new image's set holds its record with a probability of `coverage` to
    coverage + 1/(N + 1), whatever the model, if the images are exchangeable: an average over images, no promise for
    each count, and it wavers more where many of the N are neighbors. Fewer than coverage / (1 - coverage) images (9
    for 0.9, 99 for 0.99) can promise nothing: the threshold is 0 then, and every set holds all counts.
    """
    _require(coverage=coverage)
    labels_N = _at(_checked_pair(probabilities_NK, classes_N), classes_N)
    rank = conformal_rank(len(labels_N), coverage)
    return float(numpy.sort(labels_N)[-rank]) if rank <= len(labels_N) else 0.0


def conformal_rank(num_images: int, coverage: float) -> int:
    """Returns ceil((N + 1) coverage): which of the N largest P(record) is the threshold; N + 1 if none is enough."""
    return math.ceil(round((num_images + 1) * coverage, 9))  # 100 * 0.55 is a little above 55


def conformal_sets(probabilities_NK: ndarray, threshold: float) -> ndarray:
    """Returns which counts are in each image's set, bool: all that reach the threshold, and always the most likely one.

    A set need not be a run of neighbors ("2 or 4, not 3" is an answer); the most likely count only raises coverage.
    """
    _require(threshold=threshold)
    probabilities_NK = _checked(probabilities_NK)
    most_likely_NK = numpy.eye(probabilities_NK.shape[1], dtype=bool)[probabilities_NK.argmax(1)]
    return (probabilities_NK >= threshold) | most_likely_NK


def mismatch_score(probabilities_NK: ndarray, labels_N: ndarray) -> ndarray:
    """Returns 1 - P(record), float64, by which bins are ranked for a recount; `labels_N` as `classes_N`.

    If a share r of the records is wrong, each equally likely to be any other count, Bayes' rule puts the odds of a
    wrong record at r / (1 - r) * (1 - P(record)) / ((K - 1) P(record)). Whatever r is, they rise with this score, so
    it ranks by the probability of an error. Temper first: T changes the order among images.
    """
    return 1 - _at(_checked_pair(probabilities_NK, labels_N, "labels_N"), labels_N)


@dataclass(frozen=True)
class Calibration:
    """What calibration.json holds: how to make a model's P(count) honest, and which counts are in an image's set.

    Attributes:
        temperature: Of `apply_temperature`.
        coverage: Share of the images whose set shall hold the record's count.
        threshold: Of `conformal_sets`, on tempered probabilities.
        counts: The K counts that the model tells apart.
        num_images: How many images it was fitted on.
    """

    temperature: float
    coverage: float
    threshold: float
    counts: list[int]
    num_images: int

    def __post_init__(self):
        _require(**vars(self))

    @classmethod
    def fit(cls, probabilities_NK: ndarray, classes_N: ndarray, counts: Sequence[int], coverage: float = 0.9) -> Self:
        """Fits both on images that the model was not trained on; one number, T, is too little to spoil the coverage."""
        temperature = fit_temperature(probabilities_NK, classes_N)
        tempered_NK = apply_temperature(probabilities_NK, temperature)
        threshold = conformal_threshold(tempered_NK, classes_N, coverage)
        calibration = cls(temperature, float(coverage), threshold, numpy.asarray(counts).tolist(), len(tempered_NK))
        calibration.apply(probabilities_NK)  # raises where the counts are not as many as the columns
        return calibration

    def apply(self, probabilities_NK: ndarray) -> tuple[ndarray, ndarray]:
        """Returns the tempered `probabilities_NK` and the sets, `in_set_NK`, from what a model gave."""
        tempered_NK = apply_temperature(probabilities_NK, self.temperature)
        if tempered_NK.shape[1] != len(self.counts):
            raise ValueError(f"probabilities_NK has {tempered_NK.shape[1]} columns, but the counts are {self.counts}.")
        return tempered_NK, conformal_sets(tempered_NK, self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON knows them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Returns what `to_dict` gave, read back; a ValueError names the key that is missing, unknown or wrong."""
        if odd := {field.name for field in fields(cls)} ^ set(plain):
            raise ValueError(f"calibration: the keys {sorted(odd)} are missing or unknown. Fit it again.")
        return cls(**plain)


ALLOWED = {
    "temperature": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "coverage": ("a number between 0 and 1, both excluded", lambda value: _is_number(value) and 0 < value < 1),
    "threshold": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "counts": ("a list of whole numbers, rising", lambda value: _are_whole(value) and sorted({*value}) == value),
    "num_images": ("a whole number above 0", lambda value: _are_whole([value]) and value > 0),
}


def _require(**values: Any) -> None:
    for key, value in values.items():
        needed, is_allowed = ALLOWED[key]
        if not is_allowed(value):
            raise ValueError(f"{key}={value!r}, but {needed} is needed.")


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)


def _are_whole(values: Any) -> bool:
    return isinstance(values, list) and values != [] and all(type(value) is int for value in values)


def _checked(probabilities_NK: ndarray) -> ndarray:
    probabilities_NK = numpy.asarray(probabilities_NK, dtype=float)
    if probabilities_NK.ndim != 2 or 0 in probabilities_NK.shape:
        raise ValueError(f"probabilities_NK has shape {probabilities_NK.shape}; (images, counts) is needed, no zeros.")
    # As far from 1 as single precision can bring the sum of a few dozen counts; NaN is refused by both.
    fair_N = (probabilities_NK >= 0).all(1) & (numpy.abs(probabilities_NK.sum(1) - 1) < 1e-4)
    if not fair_N.all():
        row = probabilities_NK[fair_N.argmin()].tolist()
        raise ValueError(f"probabilities_NK has a row {row}: numbers from 0 that sum to 1 are needed, not logits.")
    return probabilities_NK


def _checked_pair(probabilities_NK: ndarray, classes_N: ndarray, name: str = "classes_N") -> ndarray:
    probabilities_NK, classes_N = _checked(probabilities_NK), numpy.asarray(classes_N)
    num_images, num_counts = probabilities_NK.shape
    whole = classes_N.shape == (num_images,) and numpy.issubdtype(classes_N.dtype, numpy.integer)
    if not whole or classes_N.min() < 0 or classes_N.max() >= num_counts:
        raise ValueError(
            f"{name} is of shape {classes_N.shape} with the values {numpy.unique(classes_N)}; {num_images} positions "
            f"among the counts are needed, integers from 0 to {num_counts - 1}."
        )
    return probabilities_NK


def _logs(probabilities_NK: ndarray) -> ndarray:
    return numpy.log(numpy.maximum(probabilities_NK, 1e-12))  # or one image that a head calls impossible decides


def _at(values_NK: ndarray, classes_N: ndarray) -> ndarray:
    return values_NK[numpy.arange(len(values_NK)), classes_N]
