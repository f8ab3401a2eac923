"""The mean of the weights leaves whole numbers whole and constants alone, and lives where the model does."""

from functools import partial
from types import SimpleNamespace

import numpy
import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from stocktake.callbacks.weight_average import MovingMean, WeightAverage
from stocktake.model.counter import BinCounter
from stocktake.model.heads import SoftmaxHead


def counter(counts, **options) -> BinCounter:
    torch.manual_seed(0)
    return BinCounter("test_resnet", counts, SoftmaxHead(), weights="none", mean=[0.485, 0.456, 0.406], **options)


def batches_of(counts, num_batches=6, batch_size=8):
    draw = torch.Generator().manual_seed(0)
    return [
        {
            "images": torch.randint(0, 255, (batch_size, 3, 32, 32), dtype=torch.uint8, generator=draw),
            "counts": torch.tensor(counts)[torch.randint(len(counts), (batch_size,), generator=draw)],
        }
        for _ in range(num_batches)
    ]


@pytest.mark.parametrize("decay", [0.9, 0.9995])
@pytest.mark.parametrize("counts", [[1, 2, 3, 4, 5], [3, 6, 12]])
def test_the_logged_best_is_what_its_checkpoint_counts(decay, counts, tmp_path):
    batches = batches_of(counts)
    best = ModelCheckpoint(tmp_path, "best", monitor="valid/accuracy", mode="max", save_on_train_epoch_end=False)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[WeightAverage(decay), best],
    )
    loader = DataLoader(batches, batch_size=None)
    trainer.fit(counter(counts, optimizer=partial(torch.optim.AdamW, lr=0.01)), loader, loader)

    again = counter(counts)
    state = torch.load(best.best_model_path, weights_only=True)
    again.load_state_dict(state["state_dict"])
    with torch.no_grad():
        said = torch.cat([again.eval().probabilities(batch["images"]) for batch in batches]).numpy().argmax(1)
    recorded = torch.cat([batch["counts"] for batch in batches]).numpy()
    exact = float((numpy.array(counts)[said] == recorded).mean())
    assert float(best.best_model_score) == pytest.approx(exact, abs=1e-6)
    tracked = {name: n for name, n in state["current_model_state"].items() if name.endswith("num_batches_tracked")}
    assert tracked
    assert all(state["state_dict"][name] == n for name, n in tracked.items())


@pytest.mark.parametrize("decay", [0.9, 0.9995])
def test_only_what_changes_has_a_mean(decay):
    model = counter([3, 6, 12])
    average = MovingMean(model, "cpu", decay)
    means, weight = None, model.backbone.fc.weight
    for _ in range(200):
        with torch.no_grad():
            weight.add_(torch.randn(weight.shape))
        for buffer in model.buffers():
            if not buffer.is_floating_point():
                buffer += 1
        average.update_parameters(model)
        now = weight.detach().double().numpy()
        means = now if means is None else decay * means + (1 - decay) * now
    numpy.testing.assert_allclose(average.module.backbone.fc.weight.detach().numpy(), means, atol=1e-4)
    of_model, of_mean = dict(model.named_buffers()), dict(average.module.named_buffers())
    assert of_mean.pop("mean_C11").equal(of_model["mean_C11"]), "a constant drifts by its rounding"
    whole = [name for name, buffer in of_model.items() if not buffer.is_floating_point()]
    assert whole
    assert all(of_mean[name].equal(of_model[name]) for name in whole)
    assert average.module.classes(torch.tensor([12, 3, 6])).tolist() == [2, 0, 1]


def test_the_mean_lives_where_the_model_will_be():
    callback, model = WeightAverage(0.9), counter([1, 2])
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    callback.setup(trainer, model, "fit")  # Lightning calls it while the model is still on the CPU
    kept = callback._average_model
    assert {tensor.device.type for tensor in kept.module.parameters()} == {"meta"}
    assert kept.n_averaged.device.type == "cpu", "asking it does not wait for the device"


@pytest.mark.parametrize("decay", [-0.1, 1, 2])
def test_a_decay_that_is_no_share_is_refused(decay):
    with pytest.raises(ValueError, match=r"callbacks.average.decay=.*type 0.99"):
        WeightAverage(decay)
