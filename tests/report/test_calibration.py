"""How sure the model is: the sentences say what the numbers do, and numbers that do not fit are refused by name."""

import re
from dataclasses import replace

import numpy
import pytest

from stocktake.evaluation.calibration_result import CalibrationResult, Reliability, RiskCoverage
from stocktake.metrics.calibration import expected_calibration_error, reliability
from stocktake.metrics.estimate import Estimate, known
from stocktake.report.calibration import describe_calibration
from stocktake.report.html import TEMPLATES


def prose(calibration: CalibrationResult) -> str:
    paragraphs = describe_calibration(calibration, num_counts=5)["sentences"]
    return " ".join(sentence for paragraph in paragraphs for sentence in paragraph).replace("\u202f", " ")


def section(calibration: CalibrationResult) -> str:
    certainty = TEMPLATES.get_template("sections.html.j2").module.certainty
    return certainty(**describe_calibration(calibration, num_counts=5)).replace("\u202f", " ")


def test_what_it_says_is_set_beside_how_often_it_is_right(calibration):
    words = prose(calibration)
    assert "it says on average that it is 48 % sure, and is right on 34 % of bins" in words
    assert "Softened by a temperature of 1.31 (fitted on 1,811 validation images), it says 38 %." in words
    assert "calibration error (ECE)" in words and "14.0 points as trained, 4.2 with the temperature" in words


def test_the_sets_are_measured_against_what_was_asked_for(calibration):
    for value, verdict in ((0.91, ""), (0.8, " They fall short."), (0.95, " They hold more.")):
        held = Estimate(value, value - 0.03, value + 0.03)
        words = prose(replace(calibration, figures={**calibration.figures, "set_coverage": held}))
        assert "made to hold the record in 90 % of bins (conformal prediction)" in words
        assert f"hold it in {100 * value:.1f} %, and name 2.4 of the 5 counts" in words
        assert f"between 87.1 % and 92.9 %: 1,811 bins to fit on, and these to measure, are no more.{verdict} " in words


def test_a_persons_help_is_told_at_all_at_half_and_at_a_fifth(calibration):
    words = prose(calibration)
    assert "Where it answers every bin, it is wrong on 66 %." in words
    assert "counts the 50 % that it is least sure of, it is wrong on 42 % of the others" in words
    assert "counts the 80 % that it is least sure of, it is wrong on 10 % of the others" in words


def test_a_single_point_needs_no_person(calibration):
    calibration = replace(calibration, risk_coverage=RiskCoverage([1.0], [0.25]))
    assert "Where it answers every bin, it is wrong on 25 %." in prose(calibration)
    assert "person" not in prose(calibration)


@pytest.mark.parametrize(
    ("temperature", "word"),
    [(1.006, "Softened"), (1.004, "Left as it is"), (0.996, "Left as it is"), (0.8, "Sharpened")],
)
def test_the_temperature_is_told_as_it_is_rounded(calibration, temperature, word):
    words = prose(replace(calibration, temperature=temperature))
    assert f"{word} by a temperature of {temperature:.2f} (fitted on 1,811 validation images)" in words


def test_averages_over_the_bars_are_those_over_the_images(calibration):
    numbers = numpy.random.default_rng(0)
    probabilities_NK, classes_N = numbers.dirichlet(numpy.full(5, 0.6), 300), numbers.integers(5, size=300)
    columns = {name: list(map(known, values)) for name, values in reliability(probabilities_NK, classes_N).items()}
    assert None in columns["accuracy"]
    diagram = Reliability(columns["confidence"], columns["accuracy"], columns["num_images"])
    error = expected_calibration_error(probabilities_NK, classes_N)
    figures = {**calibration.figures, "ece_before": Estimate(error)}
    calibration = replace(calibration, figures=figures, before=diagram, after=diagram)
    said, right = probabilities_NK.max(1).mean(), (probabilities_NK.argmax(1) == classes_N).mean()
    words = prose(calibration)
    assert f"it is {100 * said:.0f} % sure, and is right on {100 * right:.0f} % of bins" in words
    assert f"{100 * error:.1f} points as trained" in words


def test_the_table_holds_the_values_and_intervals_of_the_metrics(calibration):
    html = section(calibration)
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', html, flags=re.DOTALL)
    cells = {title: re.findall(r">([\d.–% ]*\d[\d.–% ]*|–)<", row) for title, row in rows}
    assert cells == {
        "Calibration error (ECE)": ["14.0 %", "12.7–15.3", "4.2 %", "3.1–5.3"],
        "Negative log-likelihood": ["1.53", "1.46–1.60", "1.47", "1.41–1.53"],
        "Brier score": ["0.74", "0.70–0.78", "0.71", "0.68–0.74"],
        "Sets of counts that hold the record": ["–", "91.2 %", "89.1–93.3"],
        "Counts in a set, mean": ["–", "2.41", "2.36–2.46"],
        "Wrong, mean over all shares answered (AURC)": ["–", "37.6 %", "34.5–40.7"],
    }
    assert "temperature 1.31, and a count belongs to the set from a probability of 12.3 % on" in html


def test_plots_stand_in_the_order_of_the_sentences(calibration):
    plots = describe_calibration(calibration, num_counts=5)["plots"]
    assert list(plots) == ["As trained", "With temperature 1.31", "If a person counts the rest"]
    assert "says 60\u202f%: right on 40\u202f% of 60" in plots["As trained"]
    assert "says 45\u202f%: right on 40\u202f% of 60" in plots["With temperature 1.31"]


def test_numbers_that_do_not_exist_are_written_as_such(calibration):
    empty = Reliability([None] * 15, [None] * 15, [0] * 15)
    figures = dict.fromkeys(calibration.figures, Estimate(None))
    calibration = replace(calibration, figures=figures, before=empty, after=empty)
    shown = describe_calibration(calibration, num_counts=5)
    html = section(calibration)
    assert "could not be compared" in html and "hold the record could not be computed" in html
    assert "<h3>Calibration</h3>" in html and "<h3>Conformal sets</h3>" in html
    assert {str(after) for _, after in shown["measures"].values()} == {"n/a"}
    assert "As trained. No bins." in shown["plots"]["As trained"]
    assert "nan" not in html.lower() and "None" not in html
