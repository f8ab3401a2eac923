"""metrics.json as it is read: what was written comes back, also what was before; anything else is refused by name."""

import copy
import json
import pathlib
from dataclasses import replace

import pytest
from evaluation_results import estimate, make_calibration, make_result

from stocktake.evaluation.calibration_result import CalibrationResult
from stocktake.evaluation.evaluation_result import EvaluationResult, Slice
from stocktake.evaluation.file_formats import read_metrics
from stocktake.metrics.definitions import COUNT_METRICS
from stocktake.run_folder import sealed

OF_BEFORE = pathlib.Path(__file__).with_name("metrics_of_before.json")


def make_whole() -> EvaluationResult:
    slices = {"brightness": [Slice(61.0, 92.5, 200, 3.25, estimate(0.4), estimate(0.8, 0.05, False), estimate(None))]}
    facts = {"num_train_bins": 4021, "predictions_sha256": "ab" * 32}
    return make_result(calibration=make_calibration(), slices=slices, **facts)


def read(plain: dict) -> EvaluationResult:
    return read_metrics(json.dumps(plain).encode())


def test_what_is_written_is_read_again():
    for result in (make_whole(), make_result(), make_result(linear_baseline=None, num_blocks=None, created=None)):
        assert read(sealed(result.to_json())) == result


def test_keys_are_bare_and_the_split_stands_beside_them():
    plain = make_whole().to_json()
    assert plain["split"] == "test"
    assert set(COUNT_METRICS) <= set(plain) and not [key for key in plain if "/" in key]
    assert plain["majority_baseline"]["accuracy"]["value"] == 0.255


def test_an_evaluation_from_before_is_read():
    """Its keys are `test/...`, the RMSE of the expected count has another name, and there is no Brier score."""
    plain = json.loads(OF_BEFORE.read_text())
    result = read_metrics(OF_BEFORE.read_bytes())
    for name in COUNT_METRICS:
        former = plain[f"test/{'rmse_mean' if name == 'rmse_expected' else name}"]
        assert result.metrics[name].to_json() == former
    assert (
        result.majority_baseline.metrics["rmse_expected"].value == plain["majority_baseline"]["test/rmse_mean"]["value"]
    )
    assert result.linear_baseline is not None and result.calibration is not None
    assert result.linear_baseline.metrics["accuracy"].value == plain["linear_baseline"]["test/accuracy"]["value"]
    assert result.calibration.temperature == plain["calibration"]["temperature"]
    assert "brier_after" not in result.calibration.figures
    assert [one.start for one in result.slices["brightness"]] == [one["from"] for one in plain["slices"]["brightness"]]
    assert read(sealed(result.to_json())) == result


def test_a_figure_that_was_edited_is_noticed():
    plain = json.loads(OF_BEFORE.read_text())
    plain["test/accuracy"]["value"] += 0.01
    with pytest.raises(ValueError, match="holds other figures than when it was written"):
        read(plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"confusion_matrix": [[1, 0], [0, 1]]},
            r"confusion_matrix with rows of \[2, 2\] numbers, and counts=\[1, 2, 3\]",
        ),
        ({"confusion_matrix": {}}, "has confusion_matrix="),
        ({"per_count": {"1": make_result().to_json()["per_count"]["1"]}}, r"lacks the counts \[2, 3\] in per_count"),
        ({"per_count": {key: {} for key in "123"}}, r"has per_count\.1="),
        ({"majority_baseline": {"count": "many"}}, "has majority_baseline="),
        ({"majority_baseline": {"accuracy": 7}}, r"has majority_baseline\.accuracy='7', but value"),
        ({"slices": {"hue": [{"from": 1}]}}, r"lacks \['to', .* in a slice of slices\.hue"),
        ({"slices": []}, r"has slices='\[\]'"),
        ({"leakage": -1}, "has leakage='-1'"),
        ({"split": 7}, "has split='7'"),
        ({"synthetic": "yes"}, "has synthetic='yes'"),
    ],
)
def test_what_no_evaluation_wrote_is_refused_by_its_name(change, message):
    with pytest.raises(ValueError, match=message):
        read(make_whole().to_json() | change)


def test_metrics_without_a_key_are_refused():
    for key in ("rmse", "counts", "confusion_matrix"):
        plain = make_whole().to_json()
        del plain[key]
        with pytest.raises(ValueError, match=rf"lacks \['{key}'\]"):
            read(plain)


def test_slices_without_a_figure_are_refused():
    plain = make_whole().to_json()
    del plain["slices"]["brightness"][0]["mae"]
    with pytest.raises(ValueError, match=r"lacks \['mae'\] in a slice of slices\.brightness"):
        read(plain)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("temperature", None, r"calibration\.temperature holds None"),
        ("temperature", "<script>", r"calibration\.temperature holds '<script>'"),
        ("temperature", -1.0, r"calibration\.temperature=-1\.0, but a number above 0"),
        ("num_images", True, r"calibration\.num_images holds True"),
        ("coverage", float("inf"), r"calibration\.coverage holds inf"),
        ("ece_after", None, r"calibration\.ece_after=.*value, low and high"),
        ("ece_after.low", "<script>", r"calibration\.ece_after holds '<script>'"),
        ("set_coverage_by_chance.low", None, r"calibration\.set_coverage_by_chance\.low holds None"),
        ("reliability.after", {}, r"calibration\.reliability\.after has lists of .*'accuracy': 0"),
        ("reliability.before.accuracy", [0.5], r"calibration\.reliability\.before has lists .*'accuracy': 1"),
        ("reliability.before.num_images", [None] * 15, r"reliability\.before\.num_images holds None"),
        ("risk_coverage.risk", [0.1], r"calibration\.risk_coverage has lists .*'risk': 1"),
        ("risk_coverage.risk", [None] * 10, r"calibration\.risk_coverage\.risk holds None"),
        ("risk_coverage.coverage", [1.0, *[0.5] * 8, 1.0], r"shares rising to 1"),
        ("risk_coverage.coverage", [n / 20 for n in range(10)], r"shares rising to 1"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused_by_its_name(path, value, message):
    *parents, key = path.split(".")
    changed = copy.deepcopy(make_calibration().to_json())
    inner = changed
    for parent in parents:
        inner = inner[parent]
    inner[key] = value
    with pytest.raises(ValueError, match=message):
        CalibrationResult.from_json(changed)


@pytest.mark.parametrize("key", ["temperature", "threshold", "set_size", "reliability", "risk_coverage"])
def test_a_missing_key_of_the_calibration_is_named(key):
    plain = make_calibration().to_json()
    del plain[key]
    with pytest.raises(ValueError, match=rf"calibration lacks \['{key}'\]"):
        CalibrationResult.from_json(plain)


def test_nan_of_an_older_file_is_unknown():
    plain = make_calibration().to_json()
    plain["ece_before"]["low"] = plain["reliability"]["before"]["accuracy"][4] = float("nan")
    calibration = CalibrationResult.from_json(plain)
    assert calibration.figures["ece_before"].low is calibration.before.accuracy[4] is None
    assert replace(calibration, before=make_calibration().before).after == make_calibration().after
