"""What an evaluation says of a model's calibration, with numbers to be worked out by hand."""

import pytest

NUM_BARS = 15


def bars(filled: dict[int, tuple[float, float, int]]) -> dict:
    empty = (None, None, 0)
    columns = zip(*(filled.get(part, empty) for part in range(NUM_BARS)), strict=True)
    return dict(zip(("confidence", "accuracy", "num_images"), map(list, columns), strict=True))


def estimate(value: float, margin: float) -> dict:
    return {"value": value, "low": value - margin, "high": value + margin}


@pytest.fixture
def calibration() -> dict:
    return {
        "temperature": 1.31,
        "coverage": 0.9,
        "threshold": 0.123,
        "num_images": 1811,
        # 0.4 * 0.05 + 0.6 * 0.20 and 0.4 * 0.03 + 0.6 * 0.05, see the bars
        "ece_before": estimate(0.14, 0.013),
        "ece_after": estimate(0.042, 0.011),
        "nll_before": estimate(1.53, 0.07),
        "nll_after": estimate(1.47, 0.06),
        "set_coverage": estimate(0.912, 0.021),
        "set_size": estimate(2.41, 0.05),
        "aurc": estimate(0.376, 0.031),
        "ece_by_chance": 0.036,
        "set_coverage_by_chance": {"low": 0.871, "high": 0.929},
        "reliability": {
            "before": bars({4: (0.30, 0.25, 40), 8: (0.60, 0.40, 60)}),  # says 0.48, is right on 0.34
            "after": bars({4: (0.28, 0.25, 40), 6: (0.45, 0.40, 60)}),  # says 0.382
        },
        "risk_coverage": {
            "coverage": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
            "risk": [0.0, 0.1, 0.2, 0.3, 0.42, 0.45, 0.5, 0.55, 0.6, 0.66],
        },
    }
