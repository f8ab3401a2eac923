"""The page of a search: the best trial first, then how it came about, what mattered, and what to type next."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from stocktake.report.html import Section, fill, render_page
from stocktake.report.search_plots import (
    draw_history,
    draw_importance,
    draw_parallel,
    draw_slice,
    num_beyond,
    num_colored,
)
from stocktake.report.search_text import (
    costs,
    count_states,
    describe_edges,
    describe_optimism,
    describe_search,
    reasons_of,
    short_keys,
    show_duration,
    show_score,
    show_value,
    title_of,
)
from stocktake.report.validations import Validations
from stocktake.tuning.importance import Importance
from stocktake.tuning.search_space import Parameter
from stocktake.tuning.trials import SearchResult, Trial

NUM_BEST = 10  # rows of the table


def render_search(
    result: SearchResult,
    importance: Importance,
    validations: Validations,
    next_commands: Sequence[tuple[str, str]],
    command: str,
    date: str,
    notes: Sequence[str] = (),
) -> str:
    """The whole page, with everything it needs inside.

    Args:
        next_commands: What to type next, each with what it does.
        command: How the search was begun.
        date: Of today.
        notes: What a reader should know besides.
    """
    ranked, parameters = result.ranked, result.space.parameters
    sections = [Section("next", "What to type next", _fill("commands", next_commands))] if next_commands else []
    if len(ranked) > 1:
        mattered = draw_importance(importance.shares, importance.method) if importance.shares else ""
        plots = {_with_scale(parameter): draw_slice(result, parameter) for parameter in parameters}
        sections += [
            Section("history", "Trial by trial", _fill("history", draw_history(result), num_beyond(result))),
            Section("importance", "What mattered", _fill("importance", importance, mattered, len(ranked))),
            Section("slices", "Along each parameter", _fill("slices", plots)),
            Section("parallel", "All at once", _fill("parallel", draw_parallel(result), num_colored(result))),
        ]
    if ranked:
        sections.append(Section("best", "The best trials", _best_trials(result, validations)))
    failed, pruned = (reasons_of(result.of_state(state)) for state in ("failed", "pruned"))
    if failed or pruned:
        sections.append(Section("troubles", "Failed and pruned", _fill("troubles", failed, pruned)))
    if spent := costs(result):
        sections.append(Section("costs", "What it took", _fill("facts", spent)))
    sections.append(Section("reproduce", "How this was made", _reproduce(result, command)))
    title = title_of(result)
    best = result.best
    headline = _fill(
        "headline",
        title,
        [result.engine, *result.fixed[:1], count_states(result), date],
        _tiles(result, validations),
        describe_search(result, validations.stability),
        [*filter(None, [describe_optimism(result)]), *describe_edges(result), *validations.notes, *notes],
        {} if best is None else _shown_values(best),
    )
    return render_page(title, headline, sections)


def _tiles(result: SearchResult, validations: Validations) -> list[dict[str, Any]]:
    metric, best, tiles = result.definition, result.best, []
    if best is not None:
        interval = validations.intervals.get(best.number)
        tiles.append(
            {
                "title": f"{metric.title}, best validation",
                "figure": show_score(best.score, metric),
                "interval": interval.interval if interval else "",
                "beside": f"{metric.better} is better",
            }
        )
    if result.test is not None:
        beside = "bins that chose nothing"
        test = {"title": "On the test bins", "figure": result.test, "interval": result.test.interval}
        tiles.append(test | {"beside": beside})
    spent = costs(result)
    tiles.append(
        {"title": "Complete trials", "figure": len(result.ranked), "beside": f"of {result.num_trials} asked for"}
    )
    if time := spent.get("From the first begin to the last end"):
        tiles.append(
            {"title": "Time", "figure": time, "beside": spent.get("Billed", "from the first begin to the last end")}
        )
    return [{"interval": "", **tile} for tile in tiles]


def _best_trials(result: SearchResult, validations: Validations) -> Markup:
    shown = result.ranked[:NUM_BEST]
    how = "No interval is known: evaluate a trial with split=valid, and type the search again."
    if known := [trial for trial in shown if trial.number in validations.intervals]:
        how = "Below a score stands its 95\u202f% interval over blocks of validation bins"
        how += "." if len(known) == len(shown) else ", where it was evaluated with split=valid."
    rows = [
        {
            "number": trial.number,
            "score": show_score(trial.score, result.definition),
            "interval": validations.intervals[trial.number].interval if trial in known else "",
            "values": dict.fromkeys(result.space.keys, "–") | _shown_values(trial),
            "duration": "–" if trial.duration_s is None else show_duration(trial.duration_s),
            "cost": "–" if trial.cost_usd is None else f"{trial.cost_usd:.2f} USD",
        }
        for trial in shown
    ]
    has_costs = any(trial.cost_usd is not None for trial in shown)
    return _fill("best_trials", short_keys(result.space.keys), rows, len(result.ranked), how, has_costs)


def _reproduce(result: SearchResult, command: str) -> Markup:
    found = {"Metric": result.metric, "Engine": result.engine, "Trials asked for": str(result.num_trials)}
    if result.fixed:
        found["In every trial"] = " ".join(result.fixed)
    return _fill("reproduce", command, found, {one.key: _described(one) for one in result.space.parameters})


def _described(parameter: Parameter) -> str:
    conditions = [f"{other} is {' or '.join(map(show_value, given))}" for other, given in parameter.when.items()]
    return f"{parameter}{', where ' if conditions else ''}{' and '.join(conditions)}"


def _with_scale(parameter: Parameter) -> str:
    return f"{parameter.key}{' (logarithmic)' if parameter.log else ''}"


def _shown_values(trial: Trial) -> dict[str, str]:
    return {key: show_value(value) for key, value in trial.values.items()}


def _fill(macro: str, *values: Any) -> Markup:
    return fill("search.html.j2", macro, *values)
