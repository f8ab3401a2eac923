"""trials.parquet: a search's trials as one table, and back; what the search was stands in the file's metadata."""

import io
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args

import pyarrow

from stocktake.data.parquet import open_file, read_batches, write_table
from stocktake.metrics.estimate import Estimate
from stocktake.run_folder import check_seal, sealed
from stocktake.shell import hydra_value
from stocktake.tuning.search_space import Parameter, SearchSpace, Value
from stocktake.tuning.trials import SearchResult, State, Trial

ABOUT, SEAL = b"stocktake.search", "search_sha256"
FIRST = {"number": pyarrow.int64(), "state": pyarrow.string(), "score": pyarrow.float64()}
LAST = {
    "duration_s": pyarrow.float64(),
    "cost_usd": pyarrow.float64(),
    "folder": pyarrow.string(),
    "reason": pyarrow.string(),
    "started_at": pyarrow.string(),
    "steps": pyarrow.list_(pyarrow.int64()),
    "step_scores": pyarrow.list_(pyarrow.float64()),
}
TEXTS = ("name", "engine", "metric")


def trials_file(result: SearchResult) -> bytes:
    """Returns the content of trials.parquet: a row for each trial, a column for each key of the space.

    A column's type follows from its parameter alone. Choices of several kinds are text in Hydra's notation, where
    `1` is a number and `"1"` is text; an empty cell is a parameter whose condition does not hold.
    """
    rows = [
        {
            "number": trial.number,
            "state": trial.state,
            "score": trial.score,
            **{_column(key): _cell(result.space[key], value) for key, value in trial.values.items()},
            **{name: getattr(trial, name) for name in LAST if not name.startswith("step")},
            "steps": [*trial.steps],
            "step_scores": [*trial.steps.values()],
        }
        for trial in result.trials
    ]
    about = {
        **{name: getattr(result, name) for name in (*TEXTS, "num_trials")},
        "fixed": list(result.fixed),
        "space": [[parameter.key, _plain(parameter)] for parameter in result.space.parameters],
        "test": result.test and result.test.to_json(),
    }
    metadata = {ABOUT: json.dumps(sealed(about, SEAL)).encode()}
    file = io.BytesIO()
    write_table(pyarrow.Table.from_pylist(rows, _schema(result.space).with_metadata(metadata)), file)
    return file.getvalue()


def read_trials(content: bytes) -> SearchResult:
    """Returns the search that a trials.parquet is of.

    Raises:
        ValueError: It is no such file, or damaged; the message goes on from the file's name.
    """
    try:
        with open_file(content, pyarrow.schema(FIRST | LAST)) as file:
            about = _about((file.schema_arrow.metadata or {}).get(ABOUT))
        space = SearchSpace.of(dict(about["space"]))
        schema = _schema(space)
        rows = pyarrow.Table.from_batches(read_batches(content, schema), schema).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"cannot be read ({' '.join(str(error).split())})") from None
    trials = [_trial(row, space) for row in rows]
    if len({trial.number for trial in trials}) < len(trials):
        raise ValueError("has a trial twice")
    result = SearchResult(
        **{name: about[name] for name in TEXTS}, space=space, trials=trials, fixed=about["fixed"],
        num_trials=about["num_trials"],
    )  # fmt: skip
    is_share = result.definition.is_share
    test = None if about["test"] is None else Estimate.from_json(about["test"], is_share)
    return SearchResult(**{**vars(result), "test": test})


def _about(content: bytes | None) -> dict[str, Any]:
    try:
        about = json.loads(content or b"null")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"does not say what it is of: damaged ({error})") from None
    if not isinstance(about, dict):
        raise ValueError("does not say of which search it is; train.py -m writes one that does")
    check_seal(about, SEAL)
    fair = {
        **dict.fromkeys(TEXTS, lambda value: isinstance(value, str)),
        "num_trials": lambda value: type(value) is int and value >= 0,
        "fixed": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
        "space": lambda value: (
            isinstance(value, list) and all(isinstance(one, list) and len(one) == 2 for one in value)
        ),
        "test": lambda value: value is None or isinstance(value, dict),
    }
    for key, is_fair in fair.items():
        if key not in about or not is_fair(about[key]):
            raise ValueError(f"has {key}={str(about.get(key))[:80]!r}, which no search of this project has")
    return about


def _trial(row: Mapping[str, Any], space: SearchSpace) -> Trial:
    number, state = row["number"], row["state"]
    if number is None or number < 0 or state not in get_args(State):
        raise ValueError(f"has a trial {number} that is {state}; there are {', '.join(get_args(State))}")
    values = {
        parameter.key: _value(parameter, row[column])
        for parameter in space.parameters
        if row[column := _column(parameter.key)] is not None
    }
    space.check(values)
    steps, scores = row["steps"] or [], row["step_scores"] or []
    if len(steps) != len(scores) or None in steps or None in scores:
        raise ValueError(f"has {len(steps)} validations of trial {number}, and {len(scores)} scores of them")
    try:
        datetime.fromisoformat(row["started_at"] or "1970-01-01")
    except ValueError:
        raise ValueError(f"has a trial {number} that began at {row['started_at'][:40]!r}") from None
    for name in ("duration_s", "cost_usd"):
        if row[name] is not None and not (math.isfinite(row[name]) and row[name] >= 0):
            raise ValueError(f"has a trial {number} of {name}={row[name]}")
    texts = {name: row[name] or "" for name in ("folder", "reason", "started_at")}
    numbers = {name: row[name] for name in ("score", "duration_s", "cost_usd")}
    return Trial(number, state, values, steps=dict(zip(steps, scores, strict=True)), **texts, **numbers)


def _schema(space: SearchSpace) -> pyarrow.Schema:
    keys = {_column(parameter.key): _type(parameter) for parameter in space.parameters}
    return pyarrow.schema(FIRST | keys | LAST)


def _column(key: str) -> str:
    """Returns a key's column: its name, unless a column of every search is called so."""
    return f"values.{key}" if key in FIRST | LAST else key


def _type(parameter: Parameter) -> pyarrow.DataType:
    if not parameter.choices:
        return pyarrow.int64() if parameter.is_whole else pyarrow.float64()
    kinds = {type(choice) for choice in parameter.choices}
    for admitted, dtype in (
        ({bool}, pyarrow.bool_()),
        ({int}, pyarrow.int64()),
        ({int, float}, pyarrow.float64()),
    ):
        if kinds <= admitted:
            return dtype
    return pyarrow.string()


def _is_notation(parameter: Parameter) -> bool:
    return _type(parameter) == pyarrow.string() and not all(isinstance(choice, str) for choice in parameter.choices)


def _cell(parameter: Parameter, value: Value) -> Value:
    return hydra_value(value) if _is_notation(parameter) else value


def _value(parameter: Parameter, cell: Any) -> Value:
    """Returns a cell as the value that it was; of a choice the very one, where 1 and 1.0 stand in one column."""
    for choice in parameter.choices:
        if cell == _cell(parameter, choice):
            return choice
    return cell


def _plain(parameter: Parameter) -> dict[str, Any]:
    """Returns what a configuration holds of a parameter, see Parameter.of."""
    when = {"when": {other: list(values) for other, values in parameter.when.items()}} if parameter.when else {}
    if parameter.choices:
        return {"choice": list(parameter.choices), **when}
    step = {} if parameter.step is None else {"step": parameter.step}
    return {"range": [parameter.low, parameter.high], "log": parameter.log, **step, **when}
