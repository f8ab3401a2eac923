"""True counts: how right the answers were, and a calibration that makes their word honest again."""

import json
from dataclasses import replace

import numpy
import pytest
from monitored import write_log

from stocktake.metrics.calibration import Calibration, apply_temperature
from stocktake.monitoring.feedback import MatchedAnswers, match, measure_feedback, read_feedback, recalibrate
from stocktake.monitoring.monitored_model import MonitoredModel
from stocktake.monitoring.window import read_window
from stocktake.storage import Folder, StorageOptions


@pytest.fixture(scope="module")
def opened(model):
    return MonitoredModel.open(Folder(str(model)))


@pytest.fixture(scope="module")
def window(opened, answers, tmp_path_factory):
    return read_window(str(write_log(tmp_path_factory.mktemp("log"), answers)), StorageOptions(), opened)


def csv_of(rows) -> bytes:
    return ("request_id,count\n" + "".join(f"{name},{count}\n" for name, count in rows)).encode()


def test_the_live_accuracy_is_that_of_the_counted_answers(opened, window):
    answers = window.answers
    rows = [(one.request_id, one.count) for one in answers[:30]] + [(one.request_id, 9) for one in answers[30:40]]
    feedback = read_feedback(csv_of([*rows, ("unknown", 3)]), "counted.csv")
    matched = match(feedback, window)
    result = measure_feedback(matched, len(feedback.true_counts), opened)
    assert (result.num_rows, result.num_matched, result.accuracy.value) == (41, 40, 0.75)
    assert result.accuracy.low < 0.75 < result.accuracy.high  # Wilson's: 0.598 to 0.858
    assert (round(result.accuracy.low, 3), round(result.accuracy.high, 3)) == (0.598, 0.858)
    confidence = numpy.mean([max(one.probabilities.values()) for one in answers[:40]])
    assert result.expected_accuracy.value == pytest.approx(confidence, abs=1e-4)
    assert 0 <= result.calibration_error_by_chance < 0.2


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_recalibration_finds_the_temperature_that_was_taken_away(opened, temperature):
    """Counts drawn from P^(1/t) of answers P: on top of the model's own temperature, t is missing."""
    draw = numpy.random.default_rng(0)
    answered = draw.dirichlet([0.7] * 5, 4000)
    true = apply_temperature(answered, temperature)
    counts = numpy.array([1 + draw.choice(5, p=row) for row in true])
    matched = MatchedAnswers([1, 2, 3, 4, 5], answered, counts)
    fitted = recalibrate(matched, opened)
    assert fitted.temperature == pytest.approx(opened.calibration.temperature * temperature, rel=0.08)
    assert fitted.num_images == 4000 and fitted.coverage == opened.calibration.coverage
    wrong = measure_feedback(matched, 4000, opened)
    assert wrong.calibration_error > 2 * wrong.calibration_error_by_chance
    honest = measure_feedback(MatchedAnswers(matched.counts, true, counts), 4000, opened)
    assert honest.calibration_error < 2 * honest.calibration_error_by_chance


def test_few_true_counts_fit_nothing(opened):
    probabilities = numpy.full((120, 5), 0.2)
    matched = MatchedAnswers([1, 2, 3, 4, 5], probabilities, numpy.repeat([3, 7], 60))
    with pytest.raises(ValueError, match=r"needs 100 answers.*has 60.*recalibration=null"):
        recalibrate(matched, opened)


ODD = {
    "no columns": (b"a,b\n1,2\n", r"has the columns \['a', 'b'\].*X-Request-Id"),
    "no count": (b"request_id,count\na,many\n", r"line 2: request_id='a' and count='many' are no row"),
    "a row too short": (b"request_id,count\na\n", "line 2"),
    "two counts": (b"request_id,count\na,1\na,2\n", "line 3: a has 1 above and 2 here"),
    "no text": (b"request_id,count\n\xff,1\n", "is no CSV"),
    "nothing": (b"", r"has the columns \[\]"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_feedback_is_refused(kind):
    content, told = ODD[kind]
    with pytest.raises(ValueError, match=told):
        read_feedback(content, "counted.csv")


def test_feedback_of_other_answers_is_refused(window):
    with pytest.raises(ValueError, match="None of the 1 rows of the feedback has the request_id"):
        match(read_feedback(csv_of([("unknown", 3)]), "counted.csv"), window)


def test_a_calibration_of_its_file_is_one(opened):
    from stocktake.monitoring.feedback import recalibration_file

    plain = json.loads(recalibration_file(opened.calibration, opened))
    assert Calibration.from_dict(plain["calibration"]) == opened.calibration
    assert plain["checkpoint_sha256"] == opened.checkpoint_sha256


def test_an_image_that_was_sent_again_and_again_is_one_row(window):
    answers = [replace(answer, image_id="bin") for answer in window.answers[:5]]
    matched = match(read_feedback(b"image_id,count\nbin,3\n", "counted.csv"), replace(window, requests=answers))
    assert len(matched.true_counts_F) == 1
    assert matched.probabilities_FK[0].tolist() == list((answers[-1].probabilities or {}).values())
