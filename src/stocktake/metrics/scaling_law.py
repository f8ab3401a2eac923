"""How an error falls with the number of training bins: three forms of two parameters, and what each predicts.

Axes: P evaluations (points of the curve), G blocks of test bins, S bootstrap samples, X sizes that are asked about.
"""

from dataclasses import dataclass

import numpy
from numpy import ndarray

from stocktake.metrics.bootstrap import draw_block_weights, percentile_interval
from stocktake.seeding import generator

FEWEST_SIZES = 3  # two would be met exactly by any form, and leave nothing to judge it by


@dataclass(frozen=True)
class Form:
    """An error as a function of n that is a straight line in ln n, once straightened.

    Attributes:
        floor: The error that no number of bins undercuts: error = floor + b * n^-c, linear as ln(error - floor)
            (Cortes et al. 1993, Learning curves: asymptotic values and rate of convergence). It is stated and not
            fitted: points over so short a span of n do not tell a floor from a smaller exponent. None: the error
            itself is linear in ln n.
    """

    name: str
    formula: str
    floor: float | None

    def straighten(self, error: ndarray) -> ndarray:
        return error if self.floor is None else numpy.log(error - self.floor)

    def bend(self, line: ndarray) -> ndarray:
        with numpy.errstate(over="ignore"):  # a line that leads to infinity is cut where an error must end
            return line if self.floor is None else self.floor + numpy.exp(line)


def forms(floor: float) -> list[Form]:
    """The form that is reported first, and two that frame it: one that levels off earlier, one that never does."""
    return [
        Form("power_law", "b n^-c", 0.0),
        Form("power_law_above_floor", f"{floor:g} + b n^-c", floor),
        Form("log_linear", "b - c ln n", None),
    ]


@dataclass(frozen=True)
class Curve:
    """A fitted form.

    Attributes:
        b: Scale, as in the form's formula.
        c: Slope, as in the formula: positive where more bins help.
        c_interval: Its 95 % interval over other test bins.
        scatter: Standard deviation of the evaluations about the straightened line.
    """

    form: Form
    b: float
    c: float
    c_interval: tuple[float, float]
    scatter: float


def resample_errors(hits_PG: ndarray, squared_errors_PG: ndarray, num_images_G: ndarray) -> dict[str, ndarray]:
    """Returns `accuracy` (as 1 - accuracy) and `rmse_expected` on S samples of the test blocks, each of shape (S, P).

    Whole blocks are drawn with replacement, the same ones for all evaluations: they share the test bins, so much of
    what another draw would change, it would change in all of them.
    """
    num_blocks = len(num_images_G)
    weights_SG = draw_block_weights(num_blocks, "learning curve", "blocks", num_blocks)
    return block_errors(hits_PG, squared_errors_PG, num_images_G, weights_SG)


def block_errors(
    hits_PG: ndarray, squared_errors_PG: ndarray, num_images_G: ndarray, weights_SG: ndarray
) -> dict[str, ndarray]:
    """Returns the two errors where each block counts as often as `weights_SG` says, of shape (S, P)."""
    total_S1 = (weights_SG @ num_images_G)[:, None]
    return {
        "accuracy": 1 - weights_SG @ hits_PG.T / total_S1,
        "rmse_expected": numpy.sqrt(weights_SG @ squared_errors_PG.T / total_S1),
    }


def fit_curve(
    form: Form, sizes_P: ndarray, errors_P: ndarray, errors_SP: ndarray, asked_X: ndarray, highest: float
) -> tuple[Curve, dict[str, ndarray]]:
    """Fits a form by least squares on the straightened errors.

    Args:
        sizes_P: Training bins of each evaluation; of at least 3 different sizes.
        errors_P: Its error, above the form's floor.
        errors_SP: The same on resampled blocks of test bins.
        asked_X: Numbers of training bins to predict the error for.
        highest: The largest error that there can be; the smallest is 0.

    Returns:
        The fit, and of shape (X,): `error`; `curve_low` and `curve_high`, where the curve itself would lie on other
        test bins (percentiles of the bootstrap, 95 %); `low` and `high`, where one new run of that size would come out
        on other test bins (95 %). The second adds to each bootstrap curve a deviation drawn from Student's t with P - 2
        degrees of freedom, as wide as the prediction interval of a linear regression (Draper & Smith 1998, Applied
        Regression Analysis, section 3.1). The scatter holds some of the noise of the test bins too, so it is rather too
        wide than too narrow. Neither knows whether the form is the right one.

    Raises:
        ValueError: There are too few sizes.
    """
    if (num_sizes := len(numpy.unique(sizes_P))) < FEWEST_SIZES:
        raise ValueError(
            f"evaluations are of {num_sizes} different numbers of training bins, and a curve with an interval needs "
            f"{FEWEST_SIZES}: train with other data.num_train_bins, and name those evaluations too."
        )
    logs_P, logs_X = numpy.log(sizes_P), numpy.log(asked_X)
    middle, squares = logs_P.mean(), ((logs_P - logs_P.mean()) ** 2).sum()

    def line(straight: ndarray) -> tuple[ndarray, ndarray]:
        """Returns height at `middle` and slope; the last axis of `straight` is P."""
        return straight.mean(-1), (straight * (logs_P - middle)).sum(-1) / squares

    straight_P = form.straighten(errors_P)
    height, slope = line(straight_P)
    residuals_P = straight_P - height - slope * (logs_P - middle)
    scatter = numpy.sqrt((residuals_P**2).sum() / (len(sizes_P) - 2))

    heights_S, slopes_S = line(form.straighten(errors_SP))
    lines_SX = heights_S[:, None] + slopes_S[:, None] * (logs_X - middle)
    width_X = scatter * numpy.sqrt(1 + 1 / len(sizes_P) + (logs_X - middle) ** 2 / squares)
    deviations_S = generator("learning curve", "runs").standard_t(len(sizes_P) - 2, len(heights_S))

    def errors(line: ndarray) -> ndarray:
        return form.bend(line).clip(0, highest)

    curve_low, curve_high = errors(numpy.stack(percentile_interval(lines_SX)))
    low, high = errors(numpy.stack(percentile_interval(lines_SX + deviations_S[:, None] * width_X)))
    start = height - slope * middle  # where ln n is 0
    c_low, c_high = percentile_interval(-slopes_S)
    curve = Curve(
        form,
        b=float(start if form.floor is None else numpy.exp(start)),
        c=float(-slope),
        c_interval=(float(c_low), float(c_high)),
        scatter=float(scatter),
    )
    predicted = {"error": errors(height + slope * (logs_X - middle)), "curve_low": curve_low, "curve_high": curve_high}
    return curve, predicted | {"low": low, "high": high}
