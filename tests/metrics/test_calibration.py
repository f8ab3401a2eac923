"""Against scikit-learn, torch, torchmetrics, MAPIE and cleanlab, by hand, and on images whose P(count) is known."""

import json
import subprocess
import sys

import numpy
import pytest
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.classification import MulticlassCalibrationError

from stocktake.metrics.calibration import (
    Calibration,
    apply_temperature,
    calibration_metrics,
    conformal_sets,
    conformal_threshold,
    expected_calibration_error,
    fit_temperature,
    mismatch_score,
    reliability,
    risk_coverage,
)

NUM_COUNTS = 5


def known(seed: int, num_images: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Returns P(count) and the positions of counts that were drawn from it, so that it is right by construction."""
    rng = numpy.random.default_rng(seed)
    probabilities = rng.dirichlet(numpy.full(NUM_COUNTS, 0.7), num_images)
    return probabilities, (probabilities.cumsum(1) < rng.random((num_images, 1))).sum(1).clip(max=NUM_COUNTS - 1)


def overconfident(probabilities: numpy.ndarray, temperature: float) -> numpy.ndarray:
    powers = probabilities**temperature
    return powers / powers.sum(1, keepdims=True)


rows = arrays(float, st.tuples(st.integers(1, 8), st.just(NUM_COUNTS)), elements=st.floats(1e-9, 1)).map(
    lambda drawn: drawn / drawn.sum(1, keepdims=True)
)


@given(
    arrays(float, (4, NUM_COUNTS), elements=st.floats(-12, 12)),
    st.floats(numpy.log(0.05), numpy.log(20)).map(numpy.exp),
)
def test_a_tempered_softmax_is_the_softmax_of_logits_over_temperature(logits, temperature):
    logits = torch.from_numpy(logits)
    expected = (logits / temperature).softmax(1).numpy()
    numpy.testing.assert_allclose(apply_temperature(logits.softmax(1).numpy(), temperature), expected, atol=1e-12)


@given(rows, st.floats(0.05, 20))
def test_tempered_rows_sum_to_1_and_keep_their_order(probabilities, temperature):
    tempered = apply_temperature(probabilities, temperature)
    numpy.testing.assert_allclose(tempered.sum(1), 1, rtol=1e-12)
    numpy.testing.assert_allclose(tempered[numpy.arange(len(tempered)), probabilities.argmax(1)], tempered.max(1))
    in_order = numpy.take_along_axis(tempered, probabilities.argsort(1), 1)
    assert (numpy.diff(in_order, axis=1) >= -1e-12).all()


def test_a_temperature_near_0_leaves_the_most_likely_count():
    assert apply_temperature([[0.35, 0.4, 0.25]], 1e-4).tolist() == [[0, 1, 0]]


def test_one_record_that_a_head_calls_impossible_does_not_decide():
    certain, classes = numpy.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]]), numpy.array([0, 0, 1])
    assert numpy.isfinite(apply_temperature(certain, 0.05)).all()
    likelihood = calibration_metrics(certain, classes)["negative_log_likelihood"]
    assert likelihood == pytest.approx((-numpy.log(1e-12) - numpy.log(0.75)) / 3)

    probabilities, classes = known(0, 1000)
    probabilities[0], classes[0] = [0, 0, 0, 0, 1], 0
    assert fit_temperature(probabilities, classes) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("sharpened", [0.4, 1.0, 2.5])
def test_the_fitted_temperature_undoes_a_known_one_and_agrees_with_torch(sharpened):
    probabilities, classes = known(0, 20_000)
    given_probabilities = overconfident(probabilities, sharpened)
    temperature = fit_temperature(given_probabilities, classes)
    assert temperature == pytest.approx(sharpened, rel=0.03)

    logits, targets = torch.from_numpy(given_probabilities).clamp(min=1e-12).log(), torch.from_numpy(classes)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    tolerances = {"tolerance_grad": 1e-12, "tolerance_change": 0}
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe", **tolerances)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / log_temperature.exp(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert temperature == pytest.approx(log_temperature.exp().item(), rel=1e-6)


def test_the_fitted_temperature_agrees_with_scikit_learn():
    rng = numpy.random.default_rng(1)
    centres = rng.normal(size=(NUM_COUNTS, 20))
    classes = rng.integers(NUM_COUNTS, size=1200)
    features = centres[classes] + 2 * rng.normal(size=(1200, 20))
    overfitted = LogisticRegression(max_iter=2000).fit(features[:150], classes[:150])
    oracle = CalibratedClassifierCV(FrozenEstimator(overfitted), method="temperature", cv=2)
    oracle.fit(features[150:800], classes[150:800])

    temperature = fit_temperature(overfitted.predict_proba(features[150:800]), classes[150:800])
    assert temperature > 1.3
    tempered = apply_temperature(overfitted.predict_proba(features[800:]), temperature)
    numpy.testing.assert_allclose(tempered, oracle.predict_proba(features[800:]), atol=1e-5)


@pytest.mark.parametrize(("hit", "end"), [(True, 0.05), (False, 20.0)])
def test_where_no_temperature_is_best_an_end_of_the_range_comes_back(hit, end):
    probabilities = numpy.tile([0.7, 0.2, 0.1], (10, 1))
    assert fit_temperature(probabilities, numpy.full(10, 0 if hit else 2)) == pytest.approx(end)


def test_the_figures_against_scikit_learn_and_torchmetrics():
    probabilities, classes = known(2, 3000)
    probabilities = overconfident(probabilities, 1.7)
    figures = calibration_metrics(probabilities, classes)
    labels = list(range(NUM_COUNTS))
    assert figures["negative_log_likelihood"] == pytest.approx(log_loss(classes, probabilities, labels=labels))
    brier = brier_score_loss(classes, probabilities, labels=labels, scale_by_half=False)
    assert figures["brier_score"] == pytest.approx(brier)
    peer = MulticlassCalibrationError(NUM_COUNTS, n_bins=15, norm="l1")(
        torch.from_numpy(probabilities), torch.from_numpy(classes)
    )
    assert figures["expected_calibration_error"] == pytest.approx(peer.item(), abs=1e-6)
    assert figures["area_under_risk_coverage"] == risk_coverage(probabilities, classes)[2]

    bins = reliability(probabilities, classes)
    accuracy, confidence = calibration_curve(probabilities.argmax(1) == classes, probabilities.max(1), n_bins=15)
    occupied = bins["num_images"] > 0
    numpy.testing.assert_allclose(bins["accuracy"][occupied], accuracy)
    numpy.testing.assert_allclose(bins["confidence"][occupied], confidence)
    assert bins["num_images"].sum() == 3000
    assert not occupied.all() and numpy.isnan(bins["accuracy"][~occupied]).all()


def test_expected_calibration_error_by_hand():
    # Four images say 0.9 and three are right: |0.75 - 0.9|; two say 0.6 and one is right: |0.5 - 0.6|.
    probabilities = numpy.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    classes = numpy.array([0, 0, 0, 1, 1, 0])
    assert expected_calibration_error(probabilities, classes) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.1)
    bins = reliability(probabilities, classes)
    # 0.6 = 9/15 is the upper edge of the ninth bin, and belongs to it.
    assert bins["num_images"].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 4, 0]
    assert bins["accuracy"][[8, 13]].tolist() == [0.5, 0.75]
    assert bins["confidence"][[8, 13]] == pytest.approx([0.6, 0.9])


def confident(confidences: list[float]) -> numpy.ndarray:
    return numpy.array([[confidence, 1 - confidence] for confidence in confidences])


@pytest.mark.parametrize(
    ("confidences", "wrong", "risk", "area"),
    [
        ([0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1], [0, 0, 0, 1 / 4], 1 / 16),  # the error is the least confident
        ([0.6, 0.7, 0.8, 0.9], [0, 0, 0, 1], [1, 1 / 2, 1 / 3, 1 / 4], 25 / 48),  # the error is the most confident
        ([0.8, 0.8, 0.8, 0.8], [0, 1, 0, 0], [1 / 4] * 4, 1 / 4),  # confidence says nothing
        ([0.7, 0.9, 0.7], [1, 0, 0], [0, 1 / 4, 1 / 3], 7 / 36),  # a tie of a hit and an error
    ],
)
def test_risk_coverage_by_hand(confidences, wrong, risk, area):
    coverage, measured, area_measured = risk_coverage(confident(confidences), numpy.array(wrong))
    assert coverage == pytest.approx(numpy.arange(1, len(wrong) + 1) / len(wrong))
    assert measured == pytest.approx(risk)
    assert area_measured == pytest.approx(area)


def test_the_area_of_a_random_ordering_is_the_error_rate():
    rng = numpy.random.default_rng(3)
    wrong = (rng.random(20_000) < 0.3).astype(int)
    assert risk_coverage(confident(rng.uniform(0.5, 1, 20_000)), wrong)[2] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("coverage", "threshold"),
    [(0.8, 0.2), (0.9, 0.1), (0.81, 0.1), (0.91, 0.0), (0.1, 0.9)],  # the 8th, 9th, 9th, 10th and 1st largest of 9
)
def test_the_threshold_of_nine_images_by_hand(coverage, threshold):
    recorded = numpy.arange(1, 10) / 10
    probabilities = numpy.stack([1 - recorded, recorded], axis=1)
    assert conformal_threshold(probabilities, numpy.ones(9, dtype=int), coverage) == threshold


def test_a_rank_is_not_raised_by_the_rounding_of_floats():
    recorded = numpy.arange(1, 100) / 100
    probabilities = numpy.stack([1 - recorded, recorded], axis=1)
    assert 100 * 0.55 > 55
    assert conformal_threshold(probabilities, numpy.ones(99, dtype=int), 0.55) == 0.45  # the 55th largest


def test_ten_images_cover_as_much_as_they_can_prove():
    # P(record) even in 0..1, so a threshold t covers 1 - t. Of ten images, 0.85 needs the 10th: 10/11 on average;
    # without the finite-sample correction it would be the 9th, and 9/11 falls short.
    rng = numpy.random.default_rng(4)
    covered = []
    for _ in range(2000):
        recorded = rng.random(10)
        probabilities = numpy.stack([1 - recorded, recorded], axis=1)
        covered.append(1 - conformal_threshold(probabilities, numpy.ones(10, dtype=int), 0.85))
    assert numpy.mean(covered) == pytest.approx(10 / 11, abs=0.006)  # three standard errors


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("sharpened", [0.5, 1.0, 3.0])
def test_sets_cover_new_images_as_stated_whatever_the_model(coverage, sharpened):
    probabilities, classes = known(5, 20_000)
    probabilities = overconfident(probabilities, sharpened)
    calibration = Calibration.fit(probabilities[:10_000], classes[:10_000], range(1, 1 + NUM_COUNTS), coverage)
    tempered, in_set = calibration.apply(probabilities[10_000:])
    hits = in_set[numpy.arange(10_000), classes[10_000:]]
    if coverage == 0.5:  # less than the accuracy: the most likely count alone covers more
        assert hits.mean() > 0.5
    else:
        assert hits.mean() == pytest.approx(coverage, abs=0.01)
    assert calibration.num_images == 10_000
    after = calibration_metrics(tempered, classes[10_000:])
    assert after["expected_calibration_error"] < 0.02  # P(count) is right again


@given(rows, st.data())
def test_sets_are_never_empty_and_grow_with_coverage(probabilities, data):
    classes = data.draw(arrays(int, len(probabilities), elements=st.integers(0, NUM_COUNTS - 1)))
    low, high = sorted(data.draw(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99))))
    smaller, larger = (
        conformal_sets(probabilities, conformal_threshold(probabilities, classes, coverage)) for coverage in (low, high)
    )
    assert smaller.dtype == bool
    assert smaller[numpy.arange(len(smaller)), probabilities.argmax(1)].all()
    assert (smaller <= larger).all()
    assert larger.all() or high <= len(classes) / (len(classes) + 1) + 1e-9
    assert conformal_sets(probabilities, 1.0).sum(1).tolist() == [1] * len(probabilities)


def test_sets_by_hand():
    probabilities = [[0.5, 0.3, 0.2], [0.0, 0.0, 1.0], [0.29, 0.36, 0.35]]
    assert conformal_sets(probabilities, 0.3).tolist() == [
        [True, True, False],
        [False, False, True],
        [False, True, True],
    ]
    assert conformal_sets(probabilities, 0.4).sum(1).tolist() == [1, 1, 1]
    assert conformal_sets(probabilities, 0.0).all()


class Believed(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn's kind whose features are P(count) itself."""

    classes_ = numpy.arange(NUM_COUNTS)

    def fit(self, probabilities, classes):
        return self

    def predict_proba(self, probabilities):
        return probabilities

    def predict(self, probabilities):
        return probabilities.argmax(1)

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("num_images", [9 * 20, 431])
def test_sets_are_those_of_mapie(coverage, num_images):
    probabilities, classes = known(10, num_images)
    asked, _ = known(11, 300)
    peer = SplitConformalClassifier(Believed(), confidence_level=coverage, conformity_score="lac", prefit=True)
    expected = peer.conformalize(probabilities, classes).predict_set(asked)[1][:, :, 0]
    in_set = conformal_sets(asked, conformal_threshold(probabilities, classes, coverage))
    is_empty = ~expected.any(1)  # MAPIE's may be; ours has the most likely count then
    assert is_empty.any() == (coverage == 0.5)
    numpy.testing.assert_array_equal(in_set[~is_empty], expected[~is_empty])
    assert in_set[is_empty].sum(1).tolist() == [1] * is_empty.sum()


def test_too_few_images_make_sets_of_everything():
    probabilities, classes = known(6, 8)
    calibration = Calibration.fit(probabilities, classes, [0, 1, 2, 3, 4], coverage=0.9)
    assert calibration.threshold == 0
    assert calibration.apply(numpy.array([[1.0, 0, 0, 0, 0]]))[1].all()
    probabilities, classes = known(6, 9)
    assert Calibration.fit(probabilities, classes, [0, 1, 2, 3, 4], coverage=0.9).threshold > 0


def test_mismatch_scores_rank_as_the_probability_that_a_record_is_wrong():
    probabilities, truth = known(7, 400_000)
    rng = numpy.random.default_rng(8)
    wrong = rng.random(len(truth)) < 0.02
    recorded = (truth + wrong * rng.integers(1, NUM_COUNTS, len(truth))) % NUM_COUNTS
    scores = mismatch_score(probabilities, recorded)
    assert scores[:3] == pytest.approx([1 - probabilities[n, recorded[n]] for n in range(3)])
    # Bayes by hand, against how often a record of about this score was made wrong.
    for low, high in [(0.2, 0.4), (0.6, 0.7), (0.9, 0.92), (0.98, 0.985)]:
        chosen = (scores >= low) & (scores < high)
        right = 0.98 * (1 - scores[chosen])
        expected = numpy.mean(0.02 * scores[chosen] / 4 / (0.02 * scores[chosen] / 4 + right))
        margin = 4 * numpy.sqrt(expected / chosen.sum())
        assert wrong[chosen].mean() == pytest.approx(expected, abs=margin)


def test_records_are_ranked_for_a_recount_as_by_cleanlab():
    probabilities, truth = known(12, 2000)
    probabilities = overconfident(probabilities, 3)
    rng = numpy.random.default_rng(13)
    wrong = rng.random(len(truth)) < 0.05
    recorded = (truth + wrong * rng.integers(1, NUM_COUNTS, len(truth))) % NUM_COUNTS
    scores = mismatch_score(probabilities, recorded)
    quality = get_label_quality_scores(recorded, probabilities, method="self_confidence")
    numpy.testing.assert_allclose(scores, 1 - quality, atol=1e-12)
    issues = find_label_issues(recorded, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    assert len(issues) > 100
    assert (numpy.diff(scores[issues]) <= 0).all()
    others = numpy.setdiff1d(numpy.arange(len(truth)), issues)
    assert numpy.median(scores[issues]) > numpy.median(scores[others])


FIELDS = {"temperature": 1.5, "coverage": 0.9, "threshold": 0.07, "counts": [1, 2, 3, 4, 5], "num_images": 1431}


def test_a_calibration_survives_json():
    probabilities, classes = known(9, 200)
    calibration = Calibration.fit(probabilities.astype(numpy.float32), classes, numpy.arange(1, 6))
    assert calibration.coverage == 0.9
    read = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert read == calibration
    numpy.testing.assert_array_equal(read.apply(probabilities)[0], calibration.apply(probabilities)[0])
    assert Calibration.from_dict(FIELDS).to_dict() == FIELDS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "1.5"),
        ("temperature", None),
        ("coverage", 0.0),
        ("coverage", 1),
        ("coverage", True),
        ("threshold", -0.1),
        ("threshold", 1.1),
        ("threshold", float("nan")),
        ("threshold", True),
        ("counts", []),
        ("counts", [1, 3, 2]),
        ("counts", [1, 1, 2]),
        ("counts", [1.5, 2.5]),
        ("counts", 5),
        ("counts", "12"),
        ("num_images", 0),
        ("num_images", 10.0),
        ("num_images", True),
    ],
)
def test_a_field_that_is_wrong_is_named(key, value):
    with pytest.raises(ValueError, match=f"^{key}="):
        Calibration.from_dict(FIELDS | {key: value})


def test_a_key_that_is_missing_or_unknown_is_named():
    with pytest.raises(ValueError, match="threshold"):
        Calibration.from_dict({name: value for name, value in FIELDS.items() if name != "threshold"})
    with pytest.raises(ValueError, match="temprature"):
        Calibration.from_dict(FIELDS | {"temprature": 1.0})


GOOD, CLASSES = [[0.7, 0.3], [0.4, 0.6]], [0, 1]


@pytest.mark.parametrize(
    ("probabilities", "classes", "named"),
    [
        ([0.7, 0.3], CLASSES, "probabilities_NK"),
        (numpy.zeros((0, 2)), numpy.zeros(0, dtype=int), "probabilities_NK"),
        (numpy.zeros((2, 0)), CLASSES, "probabilities_NK"),
        ([[0.7, 0.3], [float("nan"), 1.0]], CLASSES, "probabilities_NK"),
        ([[0.7, 0.3], [float("inf"), 0.0]], CLASSES, "probabilities_NK"),
        ([[0.7, 0.3], [-0.2, 1.2]], CLASSES, "probabilities_NK"),
        ([[0.7, 0.3], [0.5, 0.6]], CLASSES, "probabilities_NK"),
        ([[2.1, -0.3], [0.5, 1.6]], CLASSES, "probabilities_NK"),
        (GOOD, [0, 2], "classes_N|labels_N"),
        (GOOD, [0, -1], "classes_N|labels_N"),
        (GOOD, [0.0, 1.0], "classes_N|labels_N"),
        (GOOD, [0], "classes_N|labels_N"),
        (GOOD, [0, 1, 1], "classes_N|labels_N"),
        (GOOD, [[0], [1]], "classes_N|labels_N"),
        (GOOD, None, "classes_N|labels_N"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        fit_temperature,
        calibration_metrics,
        reliability,
        expected_calibration_error,
        risk_coverage,
        mismatch_score,
        lambda probabilities, classes: conformal_threshold(probabilities, classes, 0.9),
        lambda probabilities, classes: Calibration.fit(probabilities, classes, [1, 2]),
    ],
)
def test_bad_input_is_refused_by_name(function, probabilities, classes, named):
    with pytest.raises(ValueError, match=f"^({named})"):
        function(probabilities, classes)
    function(GOOD, CLASSES)


@pytest.mark.parametrize("coverage", [0, 1, -0.5, 90, float("nan"), None])
def test_a_coverage_that_is_no_share_is_refused(coverage):
    with pytest.raises(ValueError, match=r"^coverage="):
        conformal_threshold(GOOD, CLASSES, coverage)


def test_counts_that_do_not_fit_the_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"2 columns.*\[1, 2, 3\]"):
        Calibration.fit(GOOD, CLASSES, [1, 2, 3])
    with pytest.raises(ValueError, match="2 columns"):
        Calibration.from_dict(FIELDS).apply(GOOD)


def test_it_needs_nothing_but_numpy():
    names = {"torch", "scipy", "sklearn", "hydra", "pyarrow"}
    command = f"import sys, stocktake.metrics.calibration; print(*sorted({names} & {{*sys.modules}}))"
    answer = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []
