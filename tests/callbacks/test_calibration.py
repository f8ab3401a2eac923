"""The calibration of a validation: over all its batches, with the weights that it was fitted to, and with no others."""

from types import SimpleNamespace

import numpy
import pytest
import torch
from without_float64 import WithoutFloat64

from stocktake.callbacks.calibration import CALIBRATION_KEY, FitCalibration
from stocktake.metrics.calibration import Calibration, expected_calibration_error
from stocktake.model.counter import BinCounter
from stocktake.model.heads import SoftmaxHead

COUNTS = [1, 2, 3, 4, 5]


@pytest.fixture
def module():
    return BinCounter("test_resnet", COUNTS, SoftmaxHead(), weights="none").eval()


def validated(callback, module, batches, step=7):
    """Has the callback see a validation; returns what it logged."""
    trainer, logged = SimpleNamespace(global_step=step), {}
    module.log = lambda name, value, **_options: logged.update({name: value})
    callback.on_validation_epoch_start(trainer, module)
    for number, outputs in enumerate(batches):
        callback.on_validation_batch_end(trainer, module, outputs, None, number)
    callback.on_validation_epoch_end(trainer, module)
    return logged


def outcomes(num_batches=10, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [
        {
            "probabilities": torch.randn(8, len(COUNTS), generator=draw).softmax(1),
            "classes": torch.randint(len(COUNTS), (8,), generator=draw),
        }
        for _ in range(num_batches)
    ]


def test_it_is_fitted_to_all_batches_of_the_newest_validation(module):
    callback, batches = FitCalibration(), outcomes()
    validated(callback, module, outcomes(seed=1))
    logged = validated(callback, module, batches)
    probabilities_NK = torch.cat([batch["probabilities"] for batch in batches]).double().numpy()
    classes_N = torch.cat([batch["classes"] for batch in batches]).numpy()
    assert callback.calibration == Calibration.fit(probabilities_NK, classes_N, COUNTS)
    assert logged == {"valid/ece": expected_calibration_error(probabilities_NK, classes_N)}


def test_only_the_weights_that_it_was_fitted_to_are_kept_with_it(module):
    callback = FitCalibration()

    def kept(step):
        checkpoint = {}
        callback.on_save_checkpoint(SimpleNamespace(global_step=step), module, checkpoint)
        return checkpoint

    assert kept(step=7) == {}
    validated(callback, module, outcomes(), step=7)
    assert kept(step=7) == {CALIBRATION_KEY: callback.calibration.to_dict()}
    assert kept(step=8) == {}


def test_a_model_that_says_nan_is_refused(module):
    batches = outcomes()
    batches[3]["probabilities"][2, 1] = numpy.nan
    with pytest.raises(ValueError, match=r"diverged.*model\.optimizer\.lr"):
        validated(FitCalibration(), module, batches)


def test_it_asks_no_device_for_float64(module):
    callback = FitCalibration()
    on_device = [{name: tensor.as_subclass(WithoutFloat64) for name, tensor in batch.items()} for batch in outcomes(2)]
    trainer = SimpleNamespace(global_step=7)
    callback.on_validation_epoch_start(trainer, module)
    for number, outputs in enumerate(on_device):
        callback.on_validation_batch_end(trainer, module, outputs, None, number)
    assert isinstance(callback.outcomes.compute(), WithoutFloat64)
    module.log = lambda *_args, **_options: None
    callback.on_validation_epoch_end(trainer, module)
    assert callback.calibration.num_images == 16
