"""How sure the model is, and how far that can be believed: sentences, plots and numbers for the page."""

from collections.abc import Sequence
from typing import Any

from stocktake.evaluation.calibration_result import CalibrationResult
from stocktake.metrics.definitions import METRICS
from stocktake.report.plots import draw_reliability, draw_risk_coverage

ROWS = {  # metric: its figures before and after the temperature
    "ece": ("ece_before", "ece_after"),
    "nll": ("nll_before", "nll_after"),
    "brier": ("brier_before", "brier_after"),
    "set_coverage": (None, "set_coverage"),
    "set_size": (None, "set_size"),
    "aurc": (None, "aurc"),
}
TITLES = ("Calibration", "Conformal sets", "A person's help")
COVERAGES = (1.0, 0.5, 0.2)  # shares of the bins that the sentence about a person's help speaks of


def describe_calibration(calibration: CalibrationResult, num_counts: int) -> dict[str, Any]:
    """What the template shows of a calibration: `titles` and `sentences`, `plots`, `measures`, `fitted`.

    Args:
        num_counts: How many counts the model tells apart.
    """
    coverage, risk = calibration.risk_coverage.coverage, calibration.risk_coverage.risk
    marked = _nearest(coverage, COVERAGES)
    number = f"{calibration.temperature:.2f}"
    plots = {
        title: draw_reliability(bars.confidence, bars.accuracy, bars.num_images, title=title)
        for bars, title in ((calibration.before, "As trained"), (calibration.after, f"With temperature {number}"))
    }
    title = "If a person counts the rest"
    plots[title] = draw_risk_coverage(coverage, risk, marked, title)
    figures = calibration.figures
    return {
        "titles": TITLES,
        "sentences": [
            _describe_honesty(calibration),
            _describe_sets(calibration, num_counts),
            _describe_help([(coverage[index], risk[index]) for index in marked]),
        ],
        "plots": plots,
        "measures": {
            METRICS[name].title: (None if before is None else figures[before], figures[after])
            for name, (before, after) in ROWS.items()
            if after in figures
        },
        "fitted": (
            f"Fitted on {calibration.num_images:,} validation images: temperature {number}, and a count belongs "
            f"to the set from a probability of {_percent(calibration.threshold, 1)} on."
        ),
    }


def _describe_honesty(calibration: CalibrationResult) -> list[str]:
    confidence, accuracy = calibration.before.mean("confidence"), calibration.before.mean("accuracy")
    confidence_after = calibration.after.mean("confidence")
    if confidence is None or accuracy is None or confidence_after is None:
        return ["How sure it is could not be compared with how often it is right."]
    temperature = round(calibration.temperature, 2)
    change = "Softened" if temperature > 1 else "Sharpened" if temperature < 1 else "Left as it is"
    sentences = [
        f"As trained, it says on average that it is {_percent(confidence)} sure, and is right on "
        f"{_percent(accuracy)} of bins.",
        f"{change} by a temperature of {temperature:.2f} (fitted on {calibration.num_images:,} validation images), "
        f"it says {_percent(confidence_after)}.",
    ]
    before, after = calibration.figures["ece_before"], calibration.figures["ece_after"]
    if before.value is not None and after.value is not None:
        sentences.append(
            f"The calibration error (ECE) is how far the two lie apart over all bars below: {100 * before.value:.1f} "
            f"points as trained, {100 * after.value:.1f} with the temperature, of which so few bins would leave "
            f"{100 * calibration.ece_by_chance:.1f} by chance alone."
        )
    return sentences


def _describe_sets(calibration: CalibrationResult, num_counts: int) -> list[str]:
    held, size = calibration.figures["set_coverage"], calibration.figures["set_size"]
    if held.value is None or size.value is None:
        return ["How often its sets of counts hold the record could not be computed."]
    low, high = calibration.set_coverage_by_chance
    verdict = " They fall short." if held.value < low else " They hold more." if held.value > high else ""
    return [
        f"Where one count is too bold, it names a set of counts, made to hold the record in "
        f"{100 * calibration.coverage:g}\u202f% of bins (conformal prediction).",
        f"On these bins the sets hold it in {_percent(held.value, 1)}, and name {size.value:.1f} of the {num_counts} "
        f"counts on average.",
        f"Where all is well, 95 of 100 such measurements lie between {_percent(low, 1)} and {_percent(high, 1)}: "
        f"{calibration.num_images:,} bins to fit on, and these to measure, are no more.{verdict}",
    ]


def _describe_help(points: Sequence[tuple[float, float]]) -> list[str]:
    (_, risk_of_all), *others = points
    sentences = [f"Where it answers every bin, it is wrong on {_percent(risk_of_all)}."]
    if others:
        cases = (
            f"the {_percent(1 - coverage)} that it is least sure of, it is wrong on {_percent(risk)} of the others"
            for coverage, risk in others
        )
        sentences.append(f"If a person counts {'; if a person counts '.join(cases)}.")
    return sentences


def _nearest(coverage: Sequence[float], shares: Sequence[float]) -> list[int]:
    """The positions of the points nearest to the shares, each once, the largest share first."""
    nearest = {min(range(len(coverage)), key=lambda index: abs(coverage[index] - share)) for share in shares}
    return sorted(nearest, reverse=True)


def _percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f}\u202f%"
