"""What an evaluation says of a model's calibration, with numbers to be worked out by hand."""

import pytest
from evaluation_results import make_calibration

from stocktake.evaluation.measured_calibration import MeasuredCalibration


@pytest.fixture
def calibration() -> MeasuredCalibration:
    return make_calibration()
