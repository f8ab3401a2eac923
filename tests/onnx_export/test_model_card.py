"""README.md of an exported model: what it says of the evaluation that lay beside the run."""

import pytest

from stocktake.onnx_export.model_card import SHOWN_CALIBRATION, SHOWN_METRICS, model_card

FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}


def card(**seen) -> str:
    metrics = {
        **dict.fromkeys(SHOWN_METRICS, FIGURE),
        "calibration": dict.fromkeys(SHOWN_CALIBRATION, FIGURE),
        "majority_baseline": {"count": 3, "test/accuracy": FIGURE},
        **{"num_images": 804, "num_blocks": 40, "split": "test", "manifest_sha256": "a" * 64},
        **seen,
    }
    return model_card(
        {
            **{"version": "demo-1", "backbone": "resnet10t", "head": "SoftmaxHead", "counts": [1, 2, 3]},
            **{"image_size_px": 96, "resize": "squash", "created": "2026-11-28T12:00:00", "metrics": metrics},
            "calibration": {"temperature": 1.7, "num_images": 800, "threshold": 0.1, "coverage": 0.9},
            "check": {"num_images": 200, "max_difference": 1e-6, "accuracy": 0.5},
            **{"data": {"seed": 0}, "manifest_sha256": "a" * 64, "num_train_bins": 100},
            **{"data_license": "CC BY-NC-SA 3.0 US", "weights_license": "none: trained from scratch"},
        }
    )


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"leakage": 0}, "It was trained on none of these bins."),
        ({"leakage": 37}, "Leak: the model was trained on 37 of these 804 test bins."),
        ({"leakage": None}, "Whether the model was trained on some of these bins, its checkpoint does not say."),
        ({}, "Whether it was trained on them is not known."),  # an evaluation of before
    ],
)
def test_whether_the_model_has_seen_the_bins_stands_before_the_figures(seen, told):
    text = card(**seen)
    assert told in text
    assert text.index(told) < text.index("| accuracy |")
