"""Searches that are done, as every engine tells of them: usual ones and ugly ones."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy

from stocktake.tuning.search_space import SearchSpace
from stocktake.tuning.trials import SearchResult, Trial

LR_DROPOUT = {
    "model.optimizer.lr": {"range": [1e-5, 1e-2], "log": True},
    "model.drop_rate": {"range": [0.0, 0.7]},
}
RECIPE = {
    **LR_DROPOUT,
    "head": {"choice": ["softmax", "smooth", "corn"]},
    "head.label_smoothing": {"range": [0.0, 0.2], "step": 0.05, "when": {"head": ["softmax", "smooth"]}},
    "data.batch_size": {"choice": [16, 32, 64]},
}
START = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
REASONS = ("CUDA out of memory: tried to allocate 2.00 GiB", "the process ended with 137 (killed)")


def make_search(
    space: Any = None, num_trials: int = 30, metric: str = "valid/accuracy", seed: int = 0, **changes: Any
) -> SearchResult:
    """Returns a search whose scores follow from its values: best at a learning rate of 1e-3 and a dropout of 0.3.

    Of 30 trials, 2 are pruned, 3 have failed and the last is running.
    """
    parameters = SearchSpace.of(space or RECIPE)
    draw, trials = numpy.random.default_rng(seed), []
    for number in range(num_trials):
        values = draw_values(parameters, draw)
        error = 0.2 + 0.05 * draw.random()
        error += 0.04 * (math.log10(values.get("model.optimizer.lr", 1e-3)) + 3) ** 2
        error += 0.3 * (values.get("model.drop_rate", 0.3) - 0.3) ** 2
        score = round(1 - error if metric == "valid/accuracy" else 4 * error, 4)
        started_at = (START + timedelta(minutes=7 * number)).isoformat(timespec="seconds")
        facts = {"started_at": started_at, "folder": f"runs/demo/lr_dropout/{number}", "duration_s": 300.0 + number}
        if number == num_trials - 1 and number:
            trials.append(Trial(number, "running", values, **(facts | {"duration_s": None})))
        elif number % 10 == 7:
            trials.append(Trial(number, "failed", values, reason=REASONS[number % 20 == 7], **facts))
        elif number % 6 == 5 and number > 5:
            reason = "worse than the median of the others at validation 2"
            trials.append(Trial(number, "pruned", values, score, {1: score, 2: score}, reason=reason, **facts))
        else:
            trials.append(Trial(number, "complete", values, score, {1: score - 0.1, 2: score}, **facts))
    search: dict[str, Any] = {
        "name": "lr_dropout",
        "engine": "tpe",
        "metric": metric,
        "space": parameters,
        "trials": trials,
        "fixed": ["experiment=demo", "trainer.max_epochs=2"],
        "num_trials": num_trials,
    }
    return SearchResult(**(search | changes))


def draw_values(space: SearchSpace, draw: numpy.random.Generator) -> dict[str, Any]:
    """Returns a point of the space, its conditions kept."""
    values: dict[str, Any] = {}
    for parameter in space.parameters:
        if not space.active(parameter, values):
            continue
        low, high = parameter.low, parameter.high
        if low is None or high is None:
            values[parameter.key] = parameter.choices[draw.integers(len(parameter.choices))]
        elif parameter.log:
            drawn = math.exp(draw.uniform(math.log(low), math.log(high)))
            values[parameter.key] = min(high, max(low, round(drawn) if parameter.is_whole else drawn))
        elif parameter.step is not None:
            values[parameter.key] = low + parameter.step * int(
                draw.integers(int((high - low) / parameter.step + 1e-9) + 1)
            )
        else:
            values[parameter.key] = int(draw.integers(low, high + 1)) if parameter.is_whole else draw.uniform(low, high)
    return values


def make_ugly_space(num_parameters: int = 12) -> dict[str, Any]:
    """Returns long keys, hostile and many choices, and ranges of all kinds."""
    kinds = [
        {"range": [1e-7, 1e-1], "log": True},
        {
            "choice": [
                "a-very-long-choice-without-any-break-in-it",
                "<script>alert(1)</script>$x^2$",
                "short",
                None,
                1,
                True,
            ]
        },
        {"range": [16, 4096], "log": True},
        {"choice": [f"choice_{number}" for number in range(14)]},
        {"range": [-12345.678, 98765.4321]},
        {"range": [1, 3]},
    ]
    return {
        f"callbacks.a_callback_with_a_name_that_nobody_would_type_{number}.options.key_{number}": kinds[number % 6]
        for number in range(num_parameters)
    }
