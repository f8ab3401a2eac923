"""What an evaluation says of a model's calibration, with numbers to be worked out by hand."""

import pytest
from evaluation_results import make_calibration

from stocktake.evaluation.calibration_result import CalibrationResult


@pytest.fixture
def calibration() -> CalibrationResult:
    return make_calibration()
