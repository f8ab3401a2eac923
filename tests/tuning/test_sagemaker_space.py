"""A space in SageMaker's words: what it cannot say is told, and what comes back is what was sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.tuning.sagemaker_space import parameter_ranges, read_values, searched, space_problems
from stocktake.tuning.search_space import SearchSpace


def test_each_kind_has_its_range():
    space = SearchSpace.of(
        {
            "model.optimizer.lr": {"range": [1e-5, 1e-2], "log": True},
            "data.batch_size": {"range": [8, 64], "log": True},
            "model.drop_rate": {"range": [0, 0.7]},
            "head": {"choice": ["corn", None, 3, True, 0.5]},
        }
    )
    assert list(space_problems(space, "bayesian")) == []
    assert parameter_ranges(space) == {
        "IntegerParameterRanges": [
            {"Name": "data.batch_size", "MinValue": "8", "MaxValue": "64", "ScalingType": "Logarithmic"}
        ],
        "ContinuousParameterRanges": [
            {"Name": "model.optimizer.lr", "MinValue": "1e-05", "MaxValue": "0.01", "ScalingType": "Logarithmic"},
            {"Name": "model.drop_rate", "MinValue": "0", "MaxValue": "0.7", "ScalingType": "Linear"},
        ],
        "CategoricalParameterRanges": [{"Name": "head", "Values": ['"corn"', "null", "3", "true", "0.5"]}],
    }
    assert searched(space, {"head"})["+head"]['"corn"'] == "corn"


@pytest.mark.parametrize(
    ("plain", "strategy", "lines"),
    [
        ({"a": {"range": [0, 10], "step": 5}}, "bayesian", ["a has a step of 5", "{choice: [0, 5, 10]}"]),
        ({"a": {"range": [0.1, 0.4], "step": 0.1}}, "random", ["{choice: [0.1, 0.2, 0.3, 0.4]}"]),
        ({"a": {"range": [0, 100], "step": 1}}, "random", ["a has a step of 1", "Write a range without a step"]),
        (
            {"a": {"choice": [1, 2]}, "b": {"range": [0, 1], "when": {"a": 1}}},
            "bayesian",
            ["b is there only with"],
        ),
        ({"a": {"range": [0, 1]}}, "grid", ["a is a range, and a grid is of choices alone"]),
        ({"a": {"choice": list(range(31))}}, "bayesian", ["a has 31 choices; SageMaker takes at most 30"]),
        ({"a": {"choice": ["x" * 255, "y"]}}, "bayesian", ["at most 256 characters"]),
        ({"a": {"choice": ["x\0"]}}, "bayesian", ["no zero one"]),
    ],
)
def test_what_a_tuning_job_cannot_express_is_told_with_what_it_can(plain, strategy, lines):
    (problem,) = space_problems(SearchSpace.of(plain), strategy)
    assert all(line in problem for line in lines), problem


NUMBERS = SearchSpace.of({"lr": {"range": [1e-6, 1.0]}, "size": {"range": [1, 10**6]}})


@given(st.floats(1e-6, 1.0), st.integers(1, 10**6))
def test_numbers_come_back_as_they_went(lr, size):
    assert read_values(NUMBERS, {"lr": repr(lr), "size": str(size)}) == {"lr": lr, "size": size}
    java = f"{lr:.17E}"  # as Java writes it
    assert read_values(NUMBERS, {"lr": java, "size": f"{size}.0"}) == {"lr": lr, "size": size}


@pytest.mark.parametrize("tuned", [{"lr": "2.0"}, {"lr": "x"}, {"size": "1.5"}, {"lr": '"0.5.1"'}])
def test_a_trial_of_another_space_is_refused(tuned):
    with pytest.raises(ValueError, match="is not in the space"):
        read_values(NUMBERS, tuned)
