"""A search's journal: what it holds, what is refused, and what a file that was written by somebody else can do."""

import json

import pytest

from stocktake.tuning.search import Outcome, Search
from stocktake.tuning.search_space import SearchSpace
from stocktake.tuning.study import OtherSearch, SearchStudy

SPACE = {
    "head": {"choice": ["softmax", "smooth", None, True, 3]},
    "head.label_smoothing": {"range": [0.1, 0.3], "when": {"head": "smooth"}},
    "epochs": {"range": [2, 8]},
}


def search(**changed) -> Search:
    plain = {"name": "one", "metric": "valid/loss", "space": SearchSpace.of(SPACE), "fixed": ["a=1", "+b=2"]}
    return Search(**plain | changed)


@pytest.fixture
def open_study(tmp_path):
    return lambda **changed: SearchStudy(search(**changed), tmp_path, tmp_path / "journal.log")


def test_what_is_told_is_there_when_it_is_opened_again(open_study, tmp_path):
    start = [{"head": "smooth", "head.label_smoothing": 0.2}, {"head": None, "epochs": 3}]
    study = open_study(start=start)
    for number in range(4):
        assert study.ask().number == number
    study.tell(0, Outcome("complete", "there/0", 0.5, cost_usd=0.25))
    study.report(1, 1, 0.9)
    study.tell(1, Outcome("pruned", "there/1", reason="worse"))
    study.tell(2, Outcome("failed", "there/2", reason="no memory"))

    result = open_study(start=start).result()
    one, two, three, four = result.trials
    assert (one.state, one.score, one.cost_usd, one.folder) == ("complete", 0.5, 0.25, "there/0")
    assert one.values["head.label_smoothing"] == 0.2 and 2 <= one.values["epochs"] <= 8
    assert two.values == {"head": None, "epochs": 3}, "without what its condition takes away"
    assert (two.state, two.score, two.steps, two.reason) == ("pruned", 0.9, {1: 0.9}, "worse")
    assert (three.state, three.score, three.reason) == ("failed", None, "no memory")
    assert (four.state, four.folder) == ("running", str(tmp_path / "3"))
    assert result.best == one and one.duration_s is not None and one.started_at.endswith("+00:00")


def test_lower_is_better_where_the_metric_says_so(open_study):
    study = open_study()
    for number, score in enumerate((0.5, 0.1, 0.9)):
        study.ask()
        study.tell(number, Outcome("complete", "", score))
    assert study.result().best.number == 1
    assert study._study.best_trial.number == 1


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"metric": "valid/accuracy"}, "optimized_metric was valid/loss, is valid/accuracy"),
        ({"fixed": ["+b=2", "a=2"]}, "a was 1, is 2"),
        ({"fixed": ["a=1"]}, r"\+b was 2, is not there"),
        ({"space": SearchSpace.of({**SPACE, "epochs": {"range": [2, 9]}})}, "epochs was 2 to 8, is 2 to 9"),
    ],
)
def test_another_search_is_refused(open_study, changed, named):
    open_study().ask()
    with pytest.raises(OtherSearch, match=named):
        open_study(**changed)
    open_study(fixed=["+b=2", "a=1"], num_trials=99, sampler="random", seed=3)  # which change nothing that was done


def test_before_the_first_trial_anything_may_change(open_study):
    assert open_study().num_begun == 0
    open_study(fixed=["a=2"]).ask()
    again = open_study(fixed=["a=2"])
    assert (again.num_begun, again.result().fixed) == (1, ["a=2"])
    with pytest.raises(OtherSearch, match="a was 2, is 1"):  # from then on nothing may
        open_study()


def test_a_dry_run_leaves_nothing(tmp_path):
    study = SearchStudy(search(), tmp_path / "none", None)
    assert study.ask().number == 0
    assert not (tmp_path / "none").exists()


def test_a_journal_that_is_damaged_is_told(open_study, tmp_path):
    open_study().ask()
    journal = tmp_path / "journal.log"
    journal.write_bytes(b"{broken}\n" + journal.read_bytes())
    with pytest.raises(ValueError, match=r"journal\.log is damaged"):
        open_study()


def test_a_value_that_somebody_wrote_into_the_journal_is_refused(open_study, tmp_path):
    study = open_study(space=SearchSpace.of({"epochs": {"range": [2, 8]}}))
    study.ask()
    journal = tmp_path / "journal.log"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if "param_value_internal" in line:
            line["param_value_internal"] = 1000.0
            line["distribution"] = json.dumps(
                {"name": "IntDistribution", "attributes": {"log": False, "step": 1, "low": 2, "high": 1000}}
            )
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="epochs=1000 is not in the space"):
        open_study(space=SearchSpace.of({"epochs": {"range": [2, 8]}})).begun_before()


def test_a_start_outside_the_space_is_refused(open_study):
    with pytest.raises(ValueError, match="epochs=9 is not in the space: epochs is 2 to 8"):
        open_study(start=[{"epochs": 9}])
