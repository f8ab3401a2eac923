"""README.md of an exported model: what it says of the evaluation that lay beside the run."""

import pytest
from evaluation_results import make_calibration, make_result, make_subject

from stocktake.evaluation.evaluation_result import EvaluationResult
from stocktake.onnx_export.model_card import model_card


def card(evaluation: EvaluationResult | None) -> str:
    return model_card(
        {
            **{"version": "demo-1", "backbone": "resnet10t", "head": "SoftmaxHead", "counts": [1, 2, 3]},
            **{"image_size_px": 96, "resize": "squash", "created": "2026-11-28T12:00:00"},
            "calibration": {"temperature": 1.7, "num_images": 800, "threshold": 0.1, "coverage": 0.9},
            "check": {"num_images": 200, "max_difference": 1e-6, "accuracy": 0.5},
            **{"data": {"seed": 0}, "manifest_sha256": "a" * 64, "num_train_bins": 100},
            **{"data_license": "CC BY-NC-SA 3.0 US", "weights_license": "none: trained from scratch"},
        },
        evaluation,
    )


def test_the_table_has_the_figures_with_their_intervals():
    text = card(make_result(calibration=make_calibration())).replace("\u202f", " ")
    assert "| Exact count (accuracy) | 37.2 % | 34.2–40.2 |" in text
    assert "| RMSE, in items | 1.11 | 1.08–1.14 |" in text
    assert "| Counts in a set, mean | 2.41 | 2.36–2.46 |" in text
    assert "Always saying 2 has an accuracy of 25.5 %." in text
    assert "split `test` (210 blocks" in text


def test_without_an_evaluation_nothing_is_known():
    assert "nothing is known of its quality" in card(None)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"leakage": 0}, "It was trained on none of these bins."),
        ({"leakage": 37}, "Leak: the model was trained on 37 of these 804 test bins."),
        ({"leakage": None}, "Whether the model was trained on some of these bins, its checkpoint does not say."),
    ],
)
def test_whether_the_model_has_seen_the_bins_stands_before_the_figures(seen, told):
    text = card(make_result(subject=make_subject(num_images=804, **seen)))
    assert told in text
    assert text.index(told) < text.index("| Exact count")
