"""Every metric against scikit-learn, and by hand."""

import numpy
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from stocktake.metrics.bootstrap import percentile_interval
from stocktake.metrics.counts import bootstrap_samples, confusion_matrix, group_errors, summarize
from stocktake.metrics.definitions import COUNT_METRICS
from stocktake.model.validation_metrics import CountMetrics

COUNTS = numpy.array([1, 2, 3, 5, 8])


def drawn(seed: int, num_images: int, absent: tuple[int, ...] = (), never_predicted: tuple[int, ...] = ()):
    """Returns probabilities_NK and positions of the recorded counts."""
    rng = numpy.random.default_rng(seed)
    recorded = rng.choice([k for k in range(len(COUNTS)) if k not in absent], num_images)
    probabilities = rng.dirichlet(numpy.ones(len(COUNTS)), num_images) + 0.3 * numpy.eye(len(COUNTS))[recorded]
    probabilities[:, list(never_predicted)] *= 1e-3
    return (probabilities / probabilities.sum(1, keepdims=True)).astype(numpy.float32), recorded


def oracle(probabilities, recorded) -> dict[str, float | numpy.ndarray]:
    predicted = probabilities.argmax(1)
    true_count, said_count = COUNTS[recorded], COUNTS[predicted]
    occurring = numpy.unique(recorded)
    macro = sklearn_metrics.precision_recall_fscore_support(
        recorded, predicted, labels=occurring, average="macro", zero_division=0
    )
    each = sklearn_metrics.precision_recall_fscore_support(
        recorded, predicted, labels=range(len(COUNTS)), zero_division=numpy.nan
    )
    return {
        "accuracy": sklearn_metrics.accuracy_score(recorded, predicted),
        **dict(zip(("macro_precision", "macro_recall", "macro_f1"), macro, strict=False)),
        **dict(zip(("precision", "recall", "f1"), each, strict=False)),
        "mae": sklearn_metrics.mean_absolute_error(true_count, said_count),
        "rmse": sklearn_metrics.root_mean_squared_error(true_count, said_count),
        "rmse_expected": sklearn_metrics.root_mean_squared_error(true_count, probabilities @ COUNTS),
        "within_one": numpy.mean([abs(a - b) <= 1 for a, b in zip(true_count, said_count, strict=True)]),
    }


CASES = [
    {"seed": 0, "num_images": 500},
    {"seed": 1, "num_images": 7},
    {"seed": 2, "num_images": 200, "absent": (1, 4)},
    {"seed": 3, "num_images": 200, "never_predicted": (0, 3)},
    {"seed": 4, "num_images": 100, "absent": (2,), "never_predicted": (2,)},
    {"seed": 5, "num_images": 1},
]


@pytest.mark.parametrize("case", CASES)
def test_summarize_against_scikit_learn(case):
    probabilities, recorded = drawn(**case)
    confusion_KK = confusion_matrix(recorded, probabilities.argmax(1), len(COUNTS))
    expected_matrix = sklearn_metrics.confusion_matrix(recorded, probabilities.argmax(1), labels=range(len(COUNTS)))
    assert (confusion_KK == expected_matrix).all()
    squared_error = ((probabilities @ COUNTS - COUNTS[recorded]) ** 2).sum()
    result, expected = summarize(confusion_KK, squared_error, COUNTS), oracle(probabilities, recorded)
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        numpy.testing.assert_allclose(result[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_count_metrics_over_batches_against_scikit_learn(case):
    probabilities, recorded = drawn(**case)
    metric = CountMetrics(COUNTS.tolist())
    for part in numpy.array_split(numpy.arange(len(recorded)), min(3, len(recorded))):
        metric.update(torch.from_numpy(probabilities[part]), torch.from_numpy(recorded[part]))
    result, expected = metric.compute(), oracle(probabilities, recorded)
    assert set(result) == set(COUNT_METRICS)
    for name in COUNT_METRICS:
        assert result[name] == pytest.approx(expected[name], rel=1e-5), name
    metric.reset()
    assert metric.confusion_KK.sum() == 0
    assert metric.squared_error == 0


def test_two_counts_by_hand():
    # Recorded 1: six said right, two said 3. Recorded 3: one said 1, one said right.
    result = summarize(numpy.array([[6, 2], [1, 1]]), numpy.array(4.9), numpy.array([1, 3]))
    expected = {
        "accuracy": 0.7,
        "macro_precision": (6 / 7 + 1 / 3) / 2,
        "macro_recall": (6 / 8 + 1 / 2) / 2,
        "macro_f1": (12 / 15 + 2 / 5) / 2,
        "mae": 0.6,
        "rmse": 1.2**0.5,
        "rmse_expected": 0.7,
        "within_one": 0.7,
    }
    for name, value in expected.items():
        assert result[name] == pytest.approx(value), name
    numpy.testing.assert_allclose(result["f1"], [0.8, 0.4])


def test_samples_of_a_bootstrap_are_one_call():
    rng = numpy.random.default_rng(0)
    matrices, errors = rng.integers(0, 9, (20, 5, 5)), rng.random(20)
    together = summarize(matrices, errors, COUNTS)
    for i in range(20):
        for name, value in summarize(matrices[i], errors[i], COUNTS).items():
            numpy.testing.assert_allclose(together[name][i], value, err_msg=name)


def test_errors_of_groups_are_those_of_their_images():
    probabilities, recorded = drawn(0, 60)
    groups = numpy.random.default_rng(0).choice(["b", "a", "c"], 60)
    confusion_GKK, squared_error_G = group_errors(recorded, probabilities, groups.tolist(), COUNTS)
    for g, name in enumerate("abc"):
        rows = groups == name
        expected = sklearn_metrics.confusion_matrix(
            recorded[rows], probabilities[rows].argmax(1), labels=range(len(COUNTS))
        )
        assert (confusion_GKK[g] == expected).all()
        assert squared_error_G[g] == pytest.approx(((probabilities[rows] @ COUNTS - COUNTS[recorded[rows]]) ** 2).sum())


def test_intervals_of_a_paired_difference_hold_it_as_often_as_they_say():
    # Blocks of 6 are easy or hard for both models; the second is exact on 8 of 100 images more.
    numbers, num_repeats, num_blocks, block = numpy.random.default_rng(1), 300, 40, 6
    num_held, lengths = 0, []
    for _ in range(num_repeats):
        ease_G = numbers.uniform(0.1, 0.9, num_blocks)
        samples = []
        for skill_G in (ease_G, ease_G + 0.08):
            exact_G = numbers.binomial(block, skill_G)
            confusion_GKK = numpy.zeros((num_blocks, 2, 2))
            confusion_GKK[:, 0] = numpy.stack([exact_G, block - exact_G], axis=1)
            samples.append(bootstrap_samples(confusion_GKK, block - exact_G, COUNTS[:2], 500)["accuracy"])
        low, high = percentile_interval(samples[1] - samples[0])
        num_held += low <= 0.08 <= high
        lengths.append((high - low, numpy.ptp(percentile_interval(samples[0]))))
    assert 0.91 <= num_held / num_repeats <= 0.98
    # Not paired, the difference's would be 1.4 times as long as one model's; what blocks share cancels out.
    paired, single = numpy.mean(lengths, axis=0)
    assert paired < 1.15 * single


def test_mixed_precision_does_not_round_the_expected_count():
    probabilities, recorded = drawn(0, 500)
    metric = CountMetrics(COUNTS.tolist())
    with torch.autocast("cpu", torch.bfloat16):
        metric.update(torch.from_numpy(probabilities), torch.from_numpy(recorded))
    assert metric.compute()["rmse_expected"] == pytest.approx(
        oracle(probabilities, recorded)["rmse_expected"], rel=1e-5
    )
