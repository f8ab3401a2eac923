"""trials.parquet: every search comes back as it was, pandas-like readers see plain columns, damage is told."""

import io
import json
import math
from dataclasses import replace

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import RECIPE, draw_values, make_search, make_ugly_space

from stocktake.metrics.estimate import Estimate
from stocktake.run_folder import sealed
from stocktake.tuning.search_results import ABOUT, SEAL, read_trials, trials_file
from stocktake.tuning.search_space import SearchSpace
from stocktake.tuning.trials import SearchResult, Trial

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CHOICES = st.one_of(
    *(
        st.lists(one, min_size=1, max_size=5, unique_by=repr)
        for one in (TEXTS, st.booleans(), st.integers(-9, 9), FLOATS)
    ),
    st.lists(st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-9, 9), FLOATS), min_size=1, unique_by=repr),
)


@st.composite
def parameters(draw) -> dict:
    kind = draw(st.sampled_from(["choice", "float", "whole", "log", "step"]))
    if kind == "choice":
        return {"choice": draw(CHOICES)}
    if kind == "whole":
        low = draw(st.integers(-50, 50))
        return {"range": [low, low + draw(st.integers(1, 100))]}
    if kind == "step":
        low = draw(st.integers(-5, 5)) / 2
        return {"range": [low, low + 4.0], "step": 0.5}
    low = draw(st.floats(1e-6, 10))
    return {"range": [low, low * draw(st.floats(2, 1000))], "log": kind == "log"}


@st.composite
def searches(draw) -> SearchResult:
    import numpy

    keys = draw(st.lists(st.sampled_from(["a.b", "head", "score", "folder", "data.x_y"]), min_size=1, unique=True))
    plain = {key: draw(parameters()) for key in keys}
    if len(keys) > 1 and "choice" in plain[keys[0]]:
        plain[keys[1]]["when"] = {keys[0]: plain[keys[0]]["choice"][:1]}
    space = SearchSpace.of(plain)
    trials = [
        Trial(
            number,
            draw(st.sampled_from(["complete", "pruned", "failed", "running"])),
            draw_values(space, numpy.random.default_rng(draw(st.integers(0, 99)))),
            draw(st.none() | FLOATS),
            draw(st.dictionaries(st.integers(0, 99), FLOATS, max_size=3)),
            draw(st.sampled_from(["", "2026-11-28T09:30:00+00:00"])),
            draw(st.none() | st.floats(0, 1e6)),
            draw(TEXTS),
            draw(TEXTS),
            draw(st.none() | st.floats(0, 1e6)),
        )
        for number in range(draw(st.integers(0, 5)))
    ]
    test = draw(st.none() | st.just(Estimate(0.5, 0.4, None)))
    return SearchResult(draw(TEXTS), draw(TEXTS), "valid/accuracy", space, trials, draw(st.lists(TEXTS)), 5, test)


def same(one: SearchResult, other: SearchResult) -> bool:
    """Whether two searches are alike, of values also in their kind, in which 1 and 1.0 and True differ."""
    kinds = [{key: type(value) for key, value in trial.values.items()} for trial in one.trials]
    others = [{key: type(value) for key, value in trial.values.items()} for trial in other.trials]
    return (one, kinds) == (replace(other, trials=list(other.trials)), others)


@settings(max_examples=150, deadline=None)
@given(searches())
def test_every_search_comes_back_as_it_was(result):
    assert same(read_trials(trials_file(result)), result)


def test_a_number_and_its_text_are_two_choices():
    choices = ["1", 1, "true", True, None, "null", 1.5, "1.5", "None", "", '"']
    trials = [Trial(number, "complete", {"run_name": choice}, 0.5) for number, choice in enumerate(choices)]
    result = make_search({"run_name": {"choice": choices}}, trials=trials)
    assert same(read_trials(trials_file(result)), result)


@pytest.mark.parametrize("space", [RECIPE, make_ugly_space()], ids=["usual", "ugly"])
def test_a_column_for_each_key_whose_type_does_not_depend_on_the_trials(space):
    result = make_search(space)
    whole, empty = (
        pyarrow.parquet.read_schema(io.BytesIO(trials_file(one))) for one in (result, replace(result, trials=[]))
    )
    assert whole.equals(empty)
    assert [name for name in whole.names if name in space] == list(space)
    if space is RECIPE:
        types = {name: str(whole.field(name).type) for name in space}
        assert types == {
            "model.optimizer.lr": "double",
            "model.drop_rate": "double",
            "head": "string",
            "head.label_smoothing": "double",
            "data.batch_size": "int64",
        }


def test_a_table_reads_as_the_trials_say():
    result = make_search()
    rows = pyarrow.parquet.read_table(io.BytesIO(trials_file(result))).to_pylist()
    assert [row["number"] for row in rows] == list(range(30))
    for row, trial in zip(rows, result.trials, strict=True):
        assert (row["state"], row["score"], row["head"]) == (trial.state, trial.score, trial.values["head"])
        assert row["head.label_smoothing"] == trial.values.get("head.label_smoothing")


def with_about(content: bytes, **changes) -> bytes:
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    about = {key: value for key, value in json.loads(table.schema.metadata[ABOUT]).items() if key != SEAL}
    return written(table, sealed(about | changes, SEAL))


def written(table: pyarrow.Table, about) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata({ABOUT: json.dumps(about)}), file)
    return file.getvalue()


def with_row(**changes) -> bytes:
    content = trials_file(make_search(num_trials=4))
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    rows = table.to_pylist()
    changed = pyarrow.Table.from_pylist([rows[0] | changes, *rows[1:]], table.schema)
    file = io.BytesIO()
    pyarrow.parquet.write_table(changed, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"PAR1 no table PAR1", "cannot be read"),
        (with_about(trials_file(make_search()), metric="valid/beauty"), "valid/beauty is no metric"),
        (with_about(trials_file(make_search()), space=[["seed", {"range": [1]}]]), "a range is"),
        (with_about(trials_file(make_search()), space=[["seed", {"choice": [1]}]]), "lacks the columns"),
        (with_about(trials_file(make_search()), fixed=[1]), "has fixed="),
        (with_about(trials_file(make_search()), num_trials=-1), "has num_trials='-1'"),
        (with_row(state="resting"), "has a trial 0 that is resting"),
        (with_row(number=1), "has a trial twice"),
        (with_row(head="corn; rm"), "is not in the space"),
        (with_row(started_at="yesterday"), "began at 'yesterday'"),
        (with_row(steps=[1, 2, 3]), "3 validations of trial 0"),
        (with_row(duration_s=math.inf), "duration_s=inf"),
    ],
)
def test_what_is_no_such_file_is_told_in_one_line(content, words):
    with pytest.raises(ValueError, match=words) as error:
        read_trials(content)
    assert "\n" not in str(error.value)


def test_a_table_of_something_else_and_an_edited_one_are_refused():
    content = trials_file(make_search())
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    about = json.loads(table.schema.metadata[ABOUT])
    with pytest.raises(ValueError, match="does not say of which search"):
        read_trials(written(table, None))
    with pytest.raises(ValueError, match="damaged, or edited"):
        read_trials(written(table, about | {"metric": "valid/loss"}))


def test_turned_bits_are_never_taken_for_other_trials():
    content, result = trials_file(make_search(num_trials=12)), make_search(num_trials=12)
    refused = []
    for at in range(4, len(content), 97):
        damaged = bytes([*content[:at], content[at] ^ 0x10, *content[at + 1 :]])
        try:
            assert same(read_trials(damaged), result)
        except ValueError as error:
            refused.append(str(error))
    assert refused and not any("\n" in message for message in refused)
