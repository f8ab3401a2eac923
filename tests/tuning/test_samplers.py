"""Proposals as a function of seed, number and history; grids counted by hand; CMA-ES beside the library's own loop."""

import itertools

import numpy
import optuna
import pytest
from cmaes import CMA

from stocktake.tuning.cma_sampler import FIRST_SIGMA
from stocktake.tuning.samplers import grid, refuse_unsuited, sampler_for
from stocktake.tuning.search import Outcome, Search
from stocktake.tuning.search_space import SearchSpace
from stocktake.tuning.study import SearchStudy

BOWL = SearchSpace.of({"x": {"range": [0.0, 1.0]}, "y": {"range": [1e-4, 1.0], "log": True}})


def score(values) -> float:
    return -((values["x"] - 0.3) ** 2) - (numpy.log10(values["y"]) + 2) ** 2 / 4


def proposals(tmp_path, sampler: str, num_trials: int, cut_at: int = -1, seed: int = 0) -> list[dict]:
    """Runs a search, opened anew at `cut_at`."""
    search = Search("bowl", "valid/accuracy", BOWL, sampler=sampler, seed=seed, num_trials=num_trials)
    journal = tmp_path / f"{sampler}-{cut_at}-{seed}.log"
    study, values = SearchStudy(search, tmp_path, journal), []
    for number in range(num_trials):
        if number == cut_at:
            study.ask()  # and killed
            study = SearchStudy(search, tmp_path, journal)
            (proposal,) = study.begun_before()
        else:
            proposal = study.ask()
        values.append(proposal.values)
        study.tell(number, Outcome("complete", str(number), score(proposal.values)))
    return values


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_search_that_was_cut_proposes_what_the_whole_one_does(tmp_path, sampler):
    whole = proposals(tmp_path, sampler, 20)
    assert proposals(tmp_path, sampler, 20, cut_at=13) == whole
    assert proposals(tmp_path, sampler, 20, seed=1) != whole
    assert len({tuple(values.values()) for values in whole}) == 20, "no point twice"


def test_cma_es_learns_as_the_librarys_own_loop(tmp_path):
    """The same generations, told to the library: the next point is its own."""
    values = proposals(tmp_path, "cmaes", 13)
    seed = int(numpy.random.SeedSequence([0, 12]).generate_state(1)[0]) % 2**31
    own = CMA(numpy.full(2, 0.5), FIRST_SIGMA, bounds=numpy.tile([0.0, 1.0], (2, 1)), seed=seed)
    assert own.population_size == 6
    points = [(numpy.array([v["x"], (numpy.log10(v["y"]) + 4) / 4]), -score(v)) for v in values]
    own.tell(points[0:6])
    own.tell(points[6:12])
    assert points[12][0] == pytest.approx(own.ask())


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_what_learns_is_nearer_than_chance(tmp_path, sampler):
    learnt = numpy.median([max(map(score, proposals(tmp_path, sampler, 40, seed=seed))) for seed in range(3)])
    chance = numpy.median([max(map(score, proposals(tmp_path, "random", 40, seed=seed))) for seed in range(3)])
    assert learnt > chance


def test_a_grid_has_each_point_once():
    space = SearchSpace.of(
        {
            "head": {"choice": ["softmax", "smooth"]},
            "smoothing": {"range": [0.1, 0.3], "step": 0.1, "when": {"head": "smooth"}},
            "epochs": {"range": [2, 4]},
        }
    )
    by_hand = [{"head": "softmax", "epochs": epochs} for epochs in (2, 3, 4)]
    by_hand += [
        {"head": "smooth", "smoothing": smoothing, "epochs": epochs}
        for smoothing, epochs in itertools.product((0.1, 0.2, 0.3), (2, 3, 4))
    ]
    points = list(grid(space))
    assert len(points) == len(by_hand)
    for point, expected in zip(points, by_hand, strict=True):
        assert point == pytest.approx(expected) if "smoothing" not in point else point["head"] == expected["head"]
        assert all(space[key].admits(value) for key, value in point.items())


@pytest.mark.parametrize(
    ("sampler", "plain", "named"),
    [
        ("cmaes", {"head": {"choice": ["a", "b"]}}, "head has a choice"),
        ("grid", {"lr": {"range": [0.1, 0.2]}}, "lr is 0.1 to 0.2, which has no end of values"),
        ("bayes", {"lr": {"range": [0.1, 0.2]}}, "'bayes' is none of tpe, cmaes, random, grid"),
    ],
)
def test_what_a_sampler_cannot_search_is_refused(sampler, plain, named):
    with pytest.raises(ValueError, match=named):
        refuse_unsuited(SearchSpace.of(plain), sampler)


def test_no_sampler_keeps_a_pickle_in_the_journal(tmp_path):
    proposals(tmp_path, "cmaes", 13)
    text = (tmp_path / "cmaes--1-0.log").read_text()
    assert "cma:" not in text and "system_attr" not in text
    assert isinstance(sampler_for("random", 0, 0), optuna.samplers.RandomSampler)
