"""The model: constructed, compared with stored numbers, loaded again, and fed what the weights were trained with."""

import io
from functools import partial

import numpy
import pytest
import timm
import torch
from without_float64 import WithoutFloat64

from stocktake.model.counter import BinCounter
from stocktake.model.heads import SoftmaxHead

NET = "test_convnext"
COUNTS = [1, 2, 3, 4, 5]
# Of seed 0 for the pattern below: timm 1.0.31, torch 2.15, CPU.
STORED_LOGITS = [
    [-0.2701, -0.2871, 0.0816, -0.0718, 0.3576],
    [-0.1816, -0.1161, 0.0399, 0.1480, 0.3659],
]


def counter(seed: int = 0, **options) -> BinCounter:
    torch.manual_seed(seed)
    return BinCounter(NET, options.pop("counts", COUNTS), SoftmaxHead(), weights="none", **options).eval()


@pytest.fixture(scope="module")
def images_BCHW():
    """A fixed pattern, uint8; the two images differ."""
    values = numpy.arange(2 * 3 * 32 * 32, dtype=numpy.int64) * 37 % 251
    return torch.from_numpy(values.astype(numpy.uint8)).view(2, 3, 32, 32)


def test_it_is_made_of_a_timm_model_with_a_new_last_layer():
    model = counter(drop_rate=0.3)
    assert model.backbone.get_classifier().out_features == 5
    expected = sum(p.numel() for p in timm.create_model(NET, num_classes=5).parameters())
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.backbone.drop_rate == 0.3


def test_the_same_seed_gives_the_stored_logits(images_BCHW):
    with torch.no_grad():
        logits_BK = counter()(images_BCHW)
    torch.testing.assert_close(logits_BK, torch.tensor(STORED_LOGITS), atol=2e-3, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_pixels_are_normalised_as_by_hand(images_BCHW, channels_last):
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    model = counter(mean=mean, std=std, channels_last=channels_last)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(images_BCHW)
    by_hand = (images_BCHW.numpy() / 255 - numpy.array(mean)[:, None, None]) / numpy.array(std)[:, None, None]
    numpy.testing.assert_allclose(seen[0].numpy(), by_hand, atol=1e-5)
    assert seen[0].dtype == torch.float32
    assert seen[0].is_contiguous(memory_format=torch.channels_last) == channels_last


@pytest.mark.parametrize("backbone", ["test_convnext", "test_efficientnet"])
def test_the_weights_own_mean_and_std_are_used(backbone):
    model = BinCounter(backbone, COUNTS, SoftmaxHead(), weights="none")
    own = timm.get_pretrained_cfg(backbone)
    torch.testing.assert_close(model.mean_C11.flatten(), 255 * torch.tensor(own.mean))
    torch.testing.assert_close(model.std_C11.flatten(), 255 * torch.tensor(own.std))


def test_a_checkpoint_loads_under_torchs_safe_default(images_BCHW):
    model, buffer = counter(mean=[0.1, 0.2, 0.3], std=[0.3, 0.3, 0.3]), io.BytesIO()
    torch.save({"state_dict": model.state_dict()}, buffer)
    buffer.seek(0)
    other = counter(seed=1)
    assert not torch.equal(other(images_BCHW), model(images_BCHW))
    other.load_state_dict(torch.load(buffer, weights_only=True)["state_dict"])
    assert torch.equal(other(images_BCHW), model(images_BCHW))


def test_counts_are_told_apart_in_rising_order(images_BCHW):
    model = counter(counts=[8, 2, 5])
    assert model.counts == [2, 5, 8]
    assert model.classes(torch.tensor([8, 2, 5, 2])).tolist() == [2, 0, 1, 0]


def test_a_prediction_names_its_images(images_BCHW):
    with torch.no_grad():
        said = counter().predict_step({"image_ids": ["00001", "1"], "images": images_BCHW})
    assert said["image_ids"] == ["00001", "1"]
    torch.testing.assert_close(said["probabilities"].sum(1), torch.ones(2))


def test_a_training_step_is_the_heads_loss(images_BCHW):
    model = counter()
    model.log = lambda *_args, **_options: None
    loss = model.training_step({"images": images_BCHW, "counts": torch.tensor([5, 1])}, 0)
    expected = torch.nn.functional.cross_entropy(model(images_BCHW), torch.tensor([4, 0]))
    torch.testing.assert_close(loss, expected)


def test_the_optimizer_and_its_schedule():
    class Fitting:
        estimated_stepping_batches = 40

    plain = counter(optimizer=partial(torch.optim.SGD, lr=0.1)).configure_optimizers()
    assert plain.keys() == {"optimizer"}
    assert plain["optimizer"].defaults["lr"] == 0.1
    model = counter(
        optimizer=partial(torch.optim.AdamW, lr=0.1),
        scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1),
    )
    model._trainer = Fitting()
    made = model.configure_optimizers()["lr_scheduler"]
    assert made["interval"] == "step"
    assert made["scheduler"].total_steps == 40
    model.scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=3)
    model.scheduler_interval = "epoch"
    made = model.configure_optimizers()["lr_scheduler"]
    assert (made["interval"], made["scheduler"].step_size) == ("epoch", 3)


def test_rates_fall_from_layer_to_layer():
    model = BinCounter(
        "test_resnet",
        COUNTS,
        SoftmaxHead(),
        weights="none",
        optimizer=partial(torch.optim.AdamW, lr=0.01, weight_decay=0.05),
        layer_decay=0.5,
    )
    optimizer = model.configure_optimizers()["optimizer"]
    rate, decay = {}, {}
    names = {id(parameter): name for name, parameter in model.backbone.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rate[names[id(parameter)]], decay[names[id(parameter)]] = group["lr"], group["weight_decay"]
    assert rate.keys() == set(names.values()), "no parameter is left out"
    assert rate["fc.weight"] == rate["fc.bias"] == 0.01
    assert rate["layer4.0.conv1.weight"] == 0.005
    assert rate["conv1.0.weight"] == min(rate.values())
    in_order = [rate[f"layer{number}.0.conv1.weight"] for number in (1, 2, 3, 4)]
    assert in_order == sorted(set(in_order)), "each layer learns faster than the one below"
    assert (decay["conv1.0.weight"], decay["fc.bias"], decay["bn1.weight"]) == (0.05, 0, 0)


@pytest.mark.parametrize("decay_norms", [True, False])
def test_biases_and_norms_decay_only_where_that_is_said(decay_norms):
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.05)
    model = BinCounter("test_resnet", COUNTS, SoftmaxHead(), optimizer, weights="none", decay_norms=decay_norms)
    groups = model.configure_optimizers()["optimizer"].param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    decay = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    assert decay["backbone.conv1.0.weight"] == decay["backbone.fc.weight"] == 0.05
    assert decay["backbone.fc.bias"] == decay["backbone.bn1.weight"] == (0.05 if decay_norms else 0)


def test_a_mirrored_bin_counts_the_same_with_flips_at_test_time(images_BCHW):
    model = counter()
    batch = {"images": images_BCHW, "image_ids": ["a", "b"]}
    mirrored = {"images": images_BCHW.flip(-1), "image_ids": ["a", "b"]}
    with torch.no_grad():
        plain, other = model.predict_step(batch)["probabilities"], model.predict_step(mirrored)["probabilities"]
        assert not torch.allclose(plain, other, atol=1e-4)
        model.flip_tta = True
        both, both_mirrored = model.predict_step(batch)["probabilities"], model.predict_step(mirrored)["probabilities"]
    torch.testing.assert_close(both, (plain + other) / 2)
    torch.testing.assert_close(both, both_mirrored)


def test_a_validation_asks_no_device_for_float64(images_BCHW):
    model, logged = counter(), {}
    model.log_dict = lambda metrics, **_options: logged.update(metrics)
    on_device = {"images": images_BCHW, "counts": torch.tensor([1, 4])}
    on_device = {name: tensor.as_subclass(WithoutFloat64) for name, tensor in on_device.items()}
    with torch.no_grad():
        for _ in range(10):
            model.validation_step(on_device, 0)
        probabilities_BK = model.probabilities(images_BCHW)
    model.on_validation_epoch_end()
    exact = (probabilities_BK.argmax(1) == torch.tensor([0, 3])).float().mean()
    assert logged["valid/accuracy"] == exact
