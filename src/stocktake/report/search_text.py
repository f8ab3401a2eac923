"""A search in words and numbers, the same in the terminal and on its page."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from stocktake.console import printable
from stocktake.metrics.definitions import Metric
from stocktake.metrics.estimate import Estimate
from stocktake.shell import hydra_value
from stocktake.tuning.search_space import Parameter, Value
from stocktake.tuning.trials import SearchResult, Trial

NARROW_END = 0.03  # of a range: a best value so close to an end may want a wider one
MAX_REASON = 160  # characters


def show_score(score: float | None, metric: Metric) -> str:
    if score is None or not math.isfinite(score):
        return "none" if score is None else str(score)
    return str(Estimate(score)) if metric.is_share else f"{score:.4g}"


def show_value(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else hydra_value(value)


def show_duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Returns the last parts of each key, as many as tell it from the others."""
    short = {}
    for key in keys:
        parts = key.split(".")
        tails = [".".join(parts[-num:]) for num in range(1, len(parts) + 1)]
        others = [f".{other}" for other in keys if other != key]
        short[key] = next((tail for tail in tails if not any(o.endswith(f".{tail}") for o in others)), key)
    return short


def one_line(reason: str) -> str:
    """Returns what went wrong without line breaks and what would steer a terminal, and not a whole log."""
    text = printable(" ".join(reason.split())) or "no reason is known"
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 1]}…"


def reasons_of(trials: Sequence[Trial]) -> dict[str, list[int]]:
    """Returns the numbers of the trials for each reason, the most frequent first."""
    numbers: dict[str, list[int]] = {}
    for trial in trials:
        numbers.setdefault(one_line(trial.reason), []).append(trial.number)
    return dict(sorted(numbers.items(), key=lambda item: -len(item[1])))


def count_states(result: SearchResult) -> str:
    """Returns `24 complete, 3 pruned, 2 failed`."""
    counts = Counter(trial.state for trial in result.trials)
    parts = [f"{counts[state]} {state}" for state in ("complete", "pruned", "failed", "running") if counts[state]]
    return ", ".join(parts) or "none has begun"


def title_of(result: SearchResult) -> str:
    if (best := result.best) is None:
        return f"No trial of {result.name} is complete"
    score = show_score(best.score, result.definition)
    return f"Trial {best.number} of {result.name} is the best: {result.definition.title} {score}"


def describe_search(result: SearchResult, stability: float | None = None) -> list[str]:
    """What was found, in sentences for a person who reads nothing else.

    Args:
        stability: In which share of other draws of the validation bins the best trial would be the best.
    """
    metric, ranked = result.definition, result.ranked
    if not ranked:
        return [f"No trial is complete ({count_states(result)}), so there is no best one."]
    best, others = ranked[0], ranked[1:]
    shown = show_score(best.score, metric)
    if not others:
        found = f"Trial {best.number} is the only complete one: {result.metric} {shown}."
        return [found, "With nothing to compare it to, its values are no finding."]
    if others[-1].score == best.score:
        return [f"All {len(ranked)} complete trials have the same {result.metric}, {shown}: nothing tells them apart."]
    follows = f"comes next with {show_score(others[0].score, metric)}"
    if others[0].score == best.score:
        follows = "came later to the same"
    sentences = [
        f"Trial {best.number} is the best of {len(ranked)} complete ones: {result.metric} {shown}, "
        f"{metric.better} is better. Trial {others[0].number} {follows}."
    ]
    if stability is not None:
        sentences.append(
            f"In {100 * stability:.0f} of 100 other draws of the validation bins it would again be the best of the "
            "trials that were evaluated on them."
        )
    return sentences


def describe_optimism(result: SearchResult) -> str:
    """What the best figure is worth; an empty string where there is none."""
    if not result.ranked:
        return ""
    num = len(result.ranked)
    of = f"the best of {num} trials' best validations" if num > 1 else "the best validation of its training"
    honest = f"It is optimistic: {of}, on the bins by which it was chosen."
    if result.test is None:
        return f"{honest} The test bins, which chose nothing, were not asked."
    interval = f" (95\u202f% interval {result.test.interval})" if result.test.interval else ""
    return f"{honest} On the test bins, which chose nothing, it is {result.test}{interval}."


def describe_edges(result: SearchResult) -> list[str]:
    """Which of the best values lie at an end of their range."""
    best = result.best
    if best is None or best.score == result.ranked[-1].score:
        return []
    sentences = []
    for parameter in result.space.parameters:
        if parameter.choices or parameter.key not in best.values:
            continue
        share = position(parameter, best.values[parameter.key])
        if not NARROW_END <= share <= 1 - NARROW_END:
            end = "lower" if share < NARROW_END else "upper"
            sentences.append(
                f"{parameter.key}={show_value(best.values[parameter.key])} lies at the {end} end of its range "
                f"({parameter}): if the key admits more, a better value may lie beyond."
            )
    return sentences


def position(parameter: Parameter, value: Value) -> float:
    """Returns where a value stands between the ends of its range, or among the choices: 0 to 1."""
    if parameter.choices:
        return [*map(repr, parameter.choices)].index(repr(value)) / max(1, len(parameter.choices) - 1)
    low, high, at = (float(number) for number in (parameter.low, parameter.high, value))  # pyright: ignore[reportArgumentType]
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def elapsed_s(trials: Sequence[Trial]) -> float | None:
    """Returns the time from the first begin to the last end of those that have ended, where it is known."""
    known = [
        (datetime.fromisoformat(trial.started_at), trial.duration_s)
        for trial in trials
        if trial.started_at and trial.duration_s is not None
    ]
    if not known:
        return None
    begin, end = min(at for at, _ in known), max(at + timedelta(seconds=lasted) for at, lasted in known)
    return (end - begin).total_seconds()


def costs(result: SearchResult) -> Mapping[str, str]:
    """Returns what the search took, by its title; what is not known is not there."""
    durations = [trial.duration_s for trial in result.trials if trial.duration_s is not None]
    billed = [trial.cost_usd for trial in result.trials if trial.cost_usd is not None]
    lost = [trial.duration_s or 0.0 for trial in result.trials if trial.state == "failed"]
    facts = {}
    if (elapsed := elapsed_s(result.trials)) is not None:
        facts["From the first begin to the last end"] = show_duration(elapsed)
    if durations:
        facts["All trials together"] = show_duration(sum(durations))
        facts["A trial, on average"] = show_duration(sum(durations) / len(durations))
    if sum(lost):
        facts["Of which failed trials took"] = show_duration(sum(lost))
    if billed:
        of = "" if len(billed) == len(result.trials) else f", known of {len(billed)} of {len(result.trials)} trials"
        facts["Billed"] = f"{sum(billed):.2f} USD{of}"
    return facts
