"""What is typed beside a sweep's file: words as hydra-optuna-sweeper's users know them, and conditions that settle."""

import pytest

from hydra_plugins.stocktake_sagemaker.typed_sweep import typed_sweep
from stocktake.tuning.search_space import SearchSpace

SPACE = {
    "head": {"choice": ["softmax", "smooth"]},
    "head.label_smoothing": {"range": [0.1, 0.3], "when": {"head": "smooth"}},
    "lr": {"range": [1e-5, 1e-2], "log": True},
}
START = [{"head": "smooth", "lr": 0.001}, {"lr": 0.01}]


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("x=interval(0,1)", {"range": [0.0, 1.0], "log": False}),
        ("x=tag(log,interval(1e-4,1))", {"range": [1e-4, 1.0], "log": True}),
        ("x=tag(int,interval(1,5))", {"range": [1, 5], "log": False}),
        ("x=range(1,5)", {"range": [1, 5]}),
        ("x=range(1,5,2)", {"range": [1, 5], "step": 2}),
        ("x=range(0.0,1.0,0.25)", {"range": [0.0, 1.0], "step": 0.25}),
        ("x=tag(log,range(1,64))", {"range": [1, 64], "log": True}),
        ("x=choice(a,'b c',true,3)", {"choice": ["a", "b c", True, 3]}),
        ("x=1e-4,1e-3", {"choice": [1e-4, 1e-3]}),
    ],
)
def test_a_sweep_becomes_what_a_file_has(typed, plain):
    sweep = typed_sweep([typed], {}, [], None)
    assert sweep.space == {"x": plain} and sweep.fixed == []
    assert SearchSpace.of(sweep.space).keys == ("x",)


def test_what_is_fixed_is_no_longer_searched_and_settles_conditions():
    smooth = typed_sweep(["sweep=recipe", "seed=3", "head=smooth"], SPACE, START, None)
    assert smooth.fixed == ["seed=3", "head=smooth"]
    assert smooth.space == {"head.label_smoothing": {"range": [0.1, 0.3]}, "lr": SPACE["lr"]}
    assert smooth.start == [{"lr": 0.001}, {"lr": 0.01}]
    assert list(typed_sweep(["head=softmax"], SPACE, START, None).space) == ["lr"]


def test_what_is_swept_takes_its_place_and_the_files_start_is_of_another_range():
    sweep = typed_sweep(["lr=interval(0.1,0.2)", "+new=1,2"], SPACE, START, None)
    assert list(sweep.space) == ["head", "head.label_smoothing", "lr", "new"]
    assert sweep.start == [{"head": "smooth"}]
    assert sweep.overrides(["lr=0.15", "new=1"]) == ["lr=0.15", "+new=1"], "as it was typed"


def test_one_sweep_at_a_time():
    with pytest.raises(ValueError, match="sweep=a,b: one sweep at a time"):
        typed_sweep(["sweep=a,b"], SPACE, START, None)
