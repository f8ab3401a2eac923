"""How sure the model is, and how far that can be believed: sentences, plots and numbers for the page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stocktake.report.plots import draw_reliability, draw_risk_coverage
from stocktake.report.text import Estimate, known

MEASURES = {  # title: the keys before and after the temperature, and whether it is a share
    "Calibration error (ECE)": ("ece_before", "ece_after", True),
    "Negative log-likelihood": ("nll_before", "nll_after", False),
    "Sets of counts that hold the record": (None, "set_coverage", True),
    "Counts in a set, mean": (None, "set_size", False),
    "Wrong, mean over all shares answered (AURC)": (None, "aurc", True),
}
NUMBERS = ("temperature", "coverage", "threshold", "num_images", "ece_by_chance")
BY_CHANCE = "set_coverage_by_chance"
RELIABILITY = ("confidence", "accuracy", "num_images")
TITLES = ("Calibration", "Conformal sets", "A person's help")
ANSWERED = (1.0, 0.5, 0.2)  # shares of the bins that the sentence about a person's help speaks of
CURE = "Write metrics.json again with scripts/evaluate.py."


def describe_certainty(calibration: Mapping[str, Any], num_counts: int) -> dict[str, Any]:
    """What the template shows of `metrics["calibration"]`: `titles` and `sentences`, `plots`, `measures`, `fitted`.

    Args:
        calibration: Of the form that metrics.json holds; the values of estimates and of empty bars may be None.
        num_counts: How many counts the model tells apart.

    Raises:
        ValueError: A key is missing, is not a number where one is needed, or holds lists that do not fit each other.
    """
    _check(calibration)
    reliability = {
        when: {name: [known(number) for number in bars[name]] for name in RELIABILITY}
        for when, bars in ((when, calibration["reliability"][when]) for when in ("before", "after"))
    }
    estimates = {
        key: Estimate.read(calibration[key], is_share)
        for *keys, is_share in MEASURES.values()
        for key in filter(None, keys)
    }
    answered, wrong = (calibration["risk_coverage"][name] for name in ("coverage", "risk"))
    marked = _nearest(answered, ANSWERED)
    number = f"{calibration['temperature']:.2f}"
    plots = {
        title: draw_reliability(**reliability[when], title=title)
        for when, title in (("before", "As trained"), ("after", f"With temperature {number}"))
    }
    title = "If a person counts the rest"
    plots[title] = draw_risk_coverage(answered, wrong, marked, title)
    return {
        "titles": TITLES,
        "sentences": [
            _describe_honesty(calibration, reliability, estimates),
            _describe_sets(calibration, estimates, num_counts),
            _describe_help([(answered[index], wrong[index]) for index in marked]),
        ],
        "plots": plots,
        "measures": {
            title: (estimates.get(before), estimates[after]) for title, (before, after, _) in MEASURES.items()
        },
        "fitted": (
            f"Fitted on {calibration['num_images']:,} validation images: temperature {number}, and a count belongs "
            f"to the set from a probability of {_percent(calibration['threshold'], 1)} on."
        ),
    }


def _describe_honesty(
    calibration: Mapping[str, Any],
    reliability: Mapping[str, Mapping[str, Sequence[float | None]]],
    estimates: Mapping[str, Estimate],
) -> list[str]:
    said, right = (_mean(reliability["before"], name) for name in ("confidence", "accuracy"))
    said_after = _mean(reliability["after"], "confidence")
    if said is None or right is None or said_after is None:
        return ["How sure it is could not be compared with how often it is right."]
    temperature = round(calibration["temperature"], 2)
    change = "Softened" if temperature > 1 else "Sharpened" if temperature < 1 else "Left as it is"
    sentences = [
        f"As trained, it says on average that it is {_percent(said)} sure, and is right on {_percent(right)} of bins.",
        f"{change} by a temperature of {temperature:.2f} (fitted on {calibration['num_images']:,} validation images), "
        f"it says {_percent(said_after)}.",
    ]
    before, after = estimates["ece_before"], estimates["ece_after"]
    if before.value is not None and after.value is not None:
        sentences.append(
            f"The calibration error (ECE) is how far the two lie apart over all bars below: {100 * before.value:.1f} "
            f"points as trained, {100 * after.value:.1f} with the temperature, of which so few bins would leave "
            f"{100 * calibration['ece_by_chance']:.1f} by chance alone."
        )
    return sentences


def _describe_sets(calibration: Mapping[str, Any], estimates: Mapping[str, Estimate], num_counts: int) -> list[str]:
    held, size = estimates["set_coverage"], estimates["set_size"]
    if held.value is None or size.value is None:
        return ["How often its sets of counts hold the record could not be computed."]
    low, high = (calibration[BY_CHANCE][end] for end in ("low", "high"))
    verdict = " They fall short." if held.value < low else " They hold more." if held.value > high else ""
    return [
        f"Where one count is too bold, it names a set of counts, made to hold the record in "
        f"{100 * calibration['coverage']:g}\u202f% of bins (conformal prediction).",
        f"On these bins the sets hold it in {_percent(held.value, 1)}, and name {size.value:.1f} of the {num_counts} "
        f"counts on average.",
        f"Where all is well, 95 of 100 such measurements lie between {_percent(low, 1)} and {_percent(high, 1)}: "
        f"{calibration['num_images']:,} bins to fit on, and these to measure, are no more.{verdict}",
    ]


def _describe_help(points: Sequence[tuple[float, float]]) -> list[str]:
    (_, wrong_of_all), *others = points
    sentences = [f"Where it answers every bin, it is wrong on {_percent(wrong_of_all)}."]
    if others:
        cases = (
            f"the {_percent(1 - answered)} that it is least sure of, it is wrong on {_percent(wrong)} of the others"
            for answered, wrong in others
        )
        sentences.append(f"If a person counts {'; if a person counts '.join(cases)}.")
    return sentences


def _mean(bars: Mapping[str, Sequence[float | None]], name: str) -> float | None:
    """The mean over the images of all bars, from the bars' own means."""
    pairs = [(value, num) for value, num in zip(bars[name], bars["num_images"], strict=True) if value is not None]
    total = sum(num for _, num in pairs)
    return sum(value * num for value, num in pairs) / total if total else None


def _nearest(answered: Sequence[float], shares: Sequence[float]) -> list[int]:
    """The positions of the points nearest to the shares, each once, the largest share first."""
    nearest = {min(range(len(answered)), key=lambda index: abs(answered[index] - share)) for share in shares}
    return sorted(nearest, reverse=True)


def _percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f}\u202f%"


def _check(calibration: Mapping[str, Any]) -> None:
    keys = [key for *keys, _ in MEASURES.values() for key in keys if key]
    if missing := [
        key for key in (*NUMBERS, *keys, BY_CHANCE, "reliability", "risk_coverage") if key not in calibration
    ]:
        raise ValueError(f"calibration lacks {missing}. {CURE}")
    for name in NUMBERS:
        _require_numbers(name, [calibration[name]])
    for key in (*keys, BY_CHANCE):
        if not isinstance(calibration[key], Mapping):
            raise ValueError(f"calibration.{key}={calibration[key]!r}, but value, low and high are needed. {CURE}")
        _require_numbers(key, calibration[key].values(), may_be_unknown=key != BY_CHANCE)
    for name, columns in (
        ("reliability.before", RELIABILITY),
        ("reliability.after", RELIABILITY),
        ("risk_coverage", ("coverage", "risk")),
    ):
        lists = calibration
        for key in name.split("."):
            lists = lists.get(key, {})
        lengths = {column: len(lists.get(column, ())) for column in columns}
        if 0 in lengths.values() or len({*lengths.values()}) > 1:
            raise ValueError(f"calibration.{name} has lists of {lengths} numbers; as many are needed in each. {CURE}")
        for column in columns:
            _require_numbers(f"{name}.{column}", lists[column], may_be_unknown=column in ("confidence", "accuracy"))
    answered = calibration["risk_coverage"]["coverage"]
    if list(answered) != sorted(answered) or answered[-1] != 1:
        raise ValueError(f"calibration.risk_coverage.coverage={answered}, but shares rising to 1 are needed. {CURE}")


def _require_numbers(name: str, values: Iterable[Any], may_be_unknown: bool = False) -> None:
    for value in values:
        is_unknown = value is None or (isinstance(value, float) and math.isnan(value))
        is_number = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
        if not (is_number or (is_unknown and may_be_unknown)):
            raise ValueError(f"calibration.{name} holds {value!r}, but a number is needed. {CURE}")
