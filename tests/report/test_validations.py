"""What evaluations of trials on the validation bins add to a search: intervals over blocks, and who would win again."""

from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from paired_evaluations import GROUPS, RECORDED, said, write
from searches import LR_DROPOUT, make_search

from stocktake.report.validations import read_test_figure, read_validations
from stocktake.seeding import generator
from stocktake.tuning.trials import SearchResult

SKILLS = {0: 0.5, 1: 0.52, 2: 0.2}


def evaluated(tmp_path: Path, metric: str = "valid/accuracy", **facts) -> SearchResult:
    """Returns three complete trials, each with an evaluation of its own in its folder."""
    trials = []
    for trial in make_search(LR_DROPOUT, 4).trials[:3]:
        folder, probabilities_NK = tmp_path / str(trial.number), said(SKILLS[trial.number], trial.number)
        write(folder / "evaluation-valid", probabilities_NK, split=facts.get("split", "valid"))
        score = float((probabilities_NK.argmax(1) == RECORDED).mean())
        trials.append(replace(trial, folder=str(folder), score=score))
    return make_search(LR_DROPOUT, metric=metric, trials=trials)


def test_intervals_and_the_winner_are_those_of_blocks_drawn_anew(tmp_path):
    result = evaluated(tmp_path)
    found = read_validations(result, result.ranked)
    blocks, block_N = numpy.unique(GROUPS, return_inverse=True)
    hits_TG = numpy.stack(
        [numpy.bincount(block_N, said(SKILLS[number], number).argmax(1) == RECORDED) for number in SKILLS]
    )
    drawn_S = generator("an oracle's own draws").multinomial(len(blocks), [1 / len(blocks)] * len(blocks), 20_000)
    accuracy_TS = (hits_TG @ drawn_S.T) / len(RECORDED)
    for number, interval in found.intervals.items():
        low, high = numpy.percentile(accuracy_TS[number], [2.5, 97.5])
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.01)
        assert interval.value == pytest.approx(result.trials[number].score)
    best = result.ranked[0].number
    assert found.stability == pytest.approx((accuracy_TS[best] >= accuracy_TS.max(0)).mean(), abs=0.03)
    assert set(found.intervals) == set(SKILLS) and 0.3 < found.stability < 1 and found.notes == []


def test_of_trials_without_an_evaluation_nothing_is_said(tmp_path):
    result = make_search(LR_DROPOUT)
    found = read_validations(result, result.ranked[:10])
    assert (dict(found.intervals), found.stability, list(found.notes)) == ({}, None, [])
    one = evaluated(tmp_path)
    found = read_validations(one, one.ranked[:1])
    assert len(found.intervals) == 1 and found.stability is None


def test_an_evaluation_of_something_else_is_left_out_and_told(tmp_path):
    result = evaluated(tmp_path)
    (tmp_path / "2/evaluation-valid/metrics.json").write_text("{}")
    trials = [replace(trial, score=0.9) if trial.number == 1 else trial for trial in result.trials]
    found = read_validations(replace(result, trials=trials), trials)
    assert set(found.intervals) == {0} and found.stability is None
    assert [note.partition(":")[0] for note in found.notes] == [
        "The evaluation of trial 1 says 66.2\u202f%, the trial 90.0\u202f%",
        "The evaluation of trial 2 is left out",
    ]


def test_the_test_side_is_not_taken_for_the_validation_side(tmp_path):
    result = evaluated(tmp_path, split="test")
    found = read_validations(result, result.ranked)
    assert dict(found.intervals) == {} and "it is of split=test" in found.notes[0]


def test_a_metric_that_evaluations_do_not_measure_has_no_interval(tmp_path):
    result = evaluated(tmp_path, "valid/loss")
    found = read_validations(result, result.ranked)
    assert dict(found.intervals) == {} and found.notes == [
        "Evaluations do not measure loss, so there is no interval of it."
    ]


def test_the_best_trials_test_figure_is_read_where_it_was_measured(tmp_path):
    result = evaluated(tmp_path)
    assert read_test_figure(result) == (None, [])
    probabilities_NK = said(0.4, 9)
    write(Path(result.ranked[0].folder) / "evaluation-test", probabilities_NK)
    figure, notes = read_test_figure(result)
    assert figure.value == pytest.approx((probabilities_NK.argmax(1) == RECORDED).mean()) and notes == []
    assert figure.low < figure.value < figure.high
    other = Path(result.ranked[1].folder) / "evaluation-test"
    write(other, probabilities_NK, split="valid")
    rest = replace(result, trials=[trial for trial in result.trials if trial is not result.ranked[0]])
    figure, notes = read_test_figure(rest)
    assert figure is None and "left out: it is of split=valid" in notes[0]
