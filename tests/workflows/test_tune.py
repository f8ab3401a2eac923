"""The finders: what they try takes effect, what they say can be typed, and nothing of it stays behind."""

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy
import pytest
import torch
from pytorch_lightning import Trainer

from stocktake.data.datamodule import BinDataModule
from stocktake.model.counter import BinCounter
from stocktake.model.heads import SoftmaxHead
from stocktake.tuning.batch_size_finder import BatchSizeSearch
from stocktake.tuning.lr_finder import LearningRateSearch, smooth
from stocktake.workflows.tune import tune

REPOSITORY = Path(__file__).parents[2]
TINY = [
    *("model=small", "model.backbone=test_resnet", "model.channels_last=false"),
    *("data.image_size_px=32", "data.num_workers=0", "data.augment=null", "data.limit=40", "data.batch_size=8"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true"),
]


class Watched(BinCounter):
    """Notes at which rate and with how many images each step is taken."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.seen: list[tuple[int, list[float]]] = []
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.too_many = math.inf

    def training_step(self, batch, batch_index):
        if len(batch["counts"]) >= self.too_many:
            raise RuntimeError("CUDA out of memory.")
        loss = super().training_step(batch, batch_index)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_index):
        raise AssertionError("a search has nothing to validate, and the weights may have diverged")

    def on_before_optimizer_step(self, optimizer):
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def on_train_batch_end(self, outputs, batch, batch_index):
        self.seen.append((len(batch["counts"]), self.rates))


def watched(**options) -> Watched:
    torch.manual_seed(0)
    optimizer = options.pop("optimizer", partial(torch.optim.AdamW, lr=0.002))
    return Watched("test_resnet", [1, 2, 3, 4, 5], SoftmaxHead(), optimizer, weights="none", **options)


@pytest.fixture
def bins(synthetic_root):
    return BinDataModule(str(synthetic_root), 8, 32, num_workers=0, limit=40)


@pytest.fixture
def make_trainer(tmp_path):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return partial(Trainer, accelerator="cpu", enable_model_summary=False, default_root_dir=tmp_path, **quiet)


def weights_of(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_the_search_for_a_rate_rises_through_the_range_whatever_the_schedule_and_leaves_the_model_as_it_was(
    bins, make_trainer, tmp_path
):
    module = watched(scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, pct_start=0.25))
    before = weights_of(module)
    finding = LearningRateSearch(1e-4, 1e-1, 25).run(module, bins, make_trainer)
    rates = [rates[0] for _, rates in module.seen]
    assert len(rates) == 25, "over five epochs"
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (pytest.approx(1e-4), pytest.approx(1e-1))
    assert finding.key == "model.optimizer.lr"
    assert [row["lr"] for row in finding.measured] == pytest.approx(rates)
    assert module.optimizer.keywords["lr"] == 0.002
    assert_same(weights_of(module), before)
    assert list(tmp_path.iterdir()) == []


class Noting(torch.optim.SGD):
    """Plain gradient descent that keeps the rate and the scale of each group at each step."""

    def step(self, closure):
        loss = closure()
        self.defaults["noted"].append([(group["lr"], group["lr_scale"]) for group in self.param_groups])
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad, alpha=-group["lr"])
        return loss


def noting(parameters, lr, noted):
    optimizer = Noting(parameters, lr)
    optimizer.defaults["noted"] = noted
    return optimizer


def test_layers_keep_their_share_of_the_rate_in_the_search(bins, make_trainer):
    noted = []
    module = watched(layer_decay=0.5, optimizer=partial(noting, lr=0.1, noted=noted))
    LearningRateSearch(1e-5, 1e-1, 25).run(module, bins, make_trainer)
    assert len({scale for _, scale in noted[0]}) > 3
    for groups in noted:
        whole = [rate / scale for rate, scale in groups]
        assert whole == pytest.approx([whole[0]] * len(whole))
    assert noted[-1][0][0] > 100 * noted[0][0][0]


RATES = numpy.logspace(-6, 0, 121)
NOISE = numpy.random.default_rng(0).normal(0, 0.05, 121)


def fall_at(rate: float) -> numpy.ndarray:
    """A loss that falls by 1, as a logistic curve in log10(rate) that is steepest here."""
    return -1 / (1 + numpy.exp(-4 * (numpy.log10(RATES) - math.log10(rate))))


def rise_from(rate: float) -> numpy.ndarray:
    return 5 * numpy.maximum(numpy.log10(RATES / rate), 0)


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 1e-2])
def test_the_suggestion_is_where_the_loss_falls_fastest_on_the_axis_that_is_drawn(rate):
    found, said = LearningRateSearch().judge(RATES, 1.6 + fall_at(rate) + rise_from(30 * rate) + NOISE)
    assert found == pytest.approx(rate, rel=0.5)  # three steps of the axis, which has twenty for a factor of ten
    assert said == f"The loss falls fastest at a learning rate of {found:g}."


def test_without_a_fall_it_is_a_tenth_of_where_the_loss_rises():
    found, said = LearningRateSearch().judge(RATES, 1.6 + rise_from(1e-2) + NOISE)
    assert 1e-4 < found <= 1e-3  # the window sees a rise a little early, which is the safe side
    assert "no further than by chance" in said and f"a learning rate of {found:g}" in said


def test_losses_that_say_nothing_give_no_rate_but_a_reason():
    flat = LearningRateSearch().judge(RATES, 1.6 + NOISE)
    assert flat[0] is None and "neither falls nor rises" in flat[1] and "type find.num_steps=300" in flat[1]
    rising = LearningRateSearch().judge(RATES, 1.6 + rise_from(1e-6) + NOISE)
    assert rising[0] is None and "type a lower find.min_lr=1e-08" in rising[1]
    with pytest.raises(ValueError, match=r"only 9 rates .* type a lower find\.min_lr"):
        LearningRateSearch().judge(RATES[:9], NOISE[:9])


def test_a_mean_over_neighbors_stays_where_it_is_and_knows_its_error():
    line = 2.0 - 0.01 * numpy.arange(121)
    numpy.testing.assert_allclose(smooth(line)[0][40:80], line[40:80], atol=1e-6)
    draws = numpy.random.default_rng(1).normal(0, 0.2, (400, 121))
    assert numpy.mean([smooth(draw)[1] for draw in draws]) == pytest.approx(
        numpy.std([smooth(draw)[0][60] for draw in draws]), rel=0.15
    )


def test_a_step_has_the_mean_loss_of_its_batches(bins, make_trainer):
    module = watched()
    finding = LearningRateSearch(1e-5, 1e-3, 20).run(module, bins, partial(make_trainer, accumulate_grad_batches=2))
    epochs = [module.losses[at : at + 5] for at in range(0, len(module.losses), 5)]  # of two, two and one batch
    steps = [step for losses in epochs for step in (losses[:2], losses[2:4], losses[4:]) if step]
    expected = [sum(step) / len(step) for step in steps[: len(finding.measured)]]
    assert [row["loss"] for row in finding.measured] == pytest.approx(expected)
    assert len(finding.measured) >= 20


def test_a_search_that_finds_nothing_shows_what_it_saw(compose, synthetic_root, tmp_path):
    words = ["experiment=demo", *TINY, "data=abid", f"data.root={synthetic_root}"]
    cfg = compose("tune", *words, "find.num_steps=20", "find.min_lr=1e-12", "find.max_lr=1e-11", output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"neither falls nor rises.* The curve is in .*tune\.html"):
        tune(cfg)
    assert "No model.optimizer.lr for demo" in (tmp_path / "tune.html").read_text()
    assert len(json.loads((tmp_path / "tune.json").read_text())["measured"]) == 20


@pytest.mark.parametrize(
    ("search", "options", "words"),
    [
        (LearningRateSearch, {"min_lr": 1.0, "max_lr": 0.1}, r"find\.min_lr=1\.0 .* type"),
        (LearningRateSearch, {"num_steps": 10}, r"find\.num_steps=10 .* type"),
        (BatchSizeSearch, {"smallest": 8, "largest": 4}, r"find\.smallest=8 .* find\.largest=4"),
        (BatchSizeSearch, {"tolerance": 5}, r"find\.tolerance=5 .* type 0\.05"),
    ],
)
def test_a_search_that_cannot_be_is_refused(search, options, words):
    with pytest.raises(ValueError, match=words):
        search(**options)


def test_every_batch_size_is_really_trained_with_and_the_model_left_as_it_was(bins, make_trainer, tmp_path):
    module = watched(scheduler=partial(torch.optim.lr_scheduler.OneCycleLR))
    before = weights_of(module)
    finding = BatchSizeSearch(2, 1024, tolerance=0, num_steps=2, seconds=0).run(module, bins, make_trainer)
    tried = [row["batch_size"] for row in finding.measured]
    assert tried[:3] == [2, 4, 8]
    assert max(tried) <= 32, "there are 40 images"
    assert [size for size, _ in module.seen] == [size for size in tried for _ in range(2 + 2)]
    assert finding.value == max(finding.measured, key=lambda row: row["images_per_s"])["batch_size"]
    assert bins.batch_size == finding.value
    assert all(row["memory_mib"] > 50 for row in finding.measured)
    assert_same(weights_of(module), before)
    assert list(tmp_path.iterdir()) == []


def test_the_smallest_batch_near_the_best_rate_is_chosen():
    rates = {4: 50.0, 8: 94.9, 16: 95.1, 32: 100.0, 64: 99.0}
    assert BatchSizeSearch(tolerance=0.05).choose(rates) == 16
    assert BatchSizeSearch(tolerance=0.1).choose(rates) == 8
    assert BatchSizeSearch(tolerance=0).choose(rates) == 32


def test_lightnings_scaler_finds_the_last_batch_that_fits_and_timing_stops_there(bins, make_trainer, tmp_path):
    module, search = watched(), BatchSizeSearch(2, 32, num_steps=1, seconds=0)
    before = weights_of(module)
    module.too_many = 16
    assert search.largest_that_fits(module, bins, make_trainer, 40) == 8
    assert [size for size, _ in module.seen] == [2] * 3 + [4] * 3 + [8] * 3
    assert_same(weights_of(module), before)
    assert list(tmp_path.iterdir()) == []
    assert max(row["batch_size"] for row in search.measure(module, bins, make_trainer, 40)) <= 8
    module.too_many = 1
    with pytest.raises(ValueError, match=r"find\.smallest=2 fit the memory; type find\.smallest=1"):
        search.measure(module, bins, make_trainer, 40)


@pytest.mark.parametrize(
    ("find", "key"),
    [
        (["find=lr", "find.num_steps=25", "find.min_lr=1e-4"], "model.optimizer.lr"),
        (["find=batch_size", "find.num_steps=1", "find.seconds=0", "find.largest=8"], "data.batch_size"),
    ],
)
def test_what_it_says_can_be_typed(compose, synthetic_root, tmp_path, capsys, monkeypatch, find, key):
    monkeypatch.setattr(LearningRateSearch, "judge", lambda *_: (0.003, "So few steps of so small a net tell nothing."))
    words = ["experiment=mobilenet_transfer", *TINY, f"data.root={synthetic_root}"]
    value = tune(compose("tune", *words, *find, output_dir=tmp_path), [*find, *words, f"{key}=7"])
    gist = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert gist["found"] == {key: value}
    *_, last = gist["next"]
    python, script, *typed = last.split()
    assert (python, script) == ("python", "train.py")
    cfg = compose("train", *typed)
    assert (cfg.model.optimizer.lr if "lr" in key else cfg.data.batch_size) == value
    assert cfg.name == "mobilenet_transfer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tune.html", "tune.json"]
    page = (tmp_path / "tune.html").read_text()
    assert f"{key}={value:g} for mobilenet_transfer" in page
    assert last in page and page.count("<svg") == 1
    assert len(json.loads((tmp_path / "tune.json").read_text())["measured"]) >= 2


def test_the_command_explains_itself():
    command = [sys.executable, "scripts/tune.py", "--help"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120).stdout
    assert "python scripts/tune.py [find=lr|batch_size] [overrides of train.py ...]" in told
    assert "python scripts/tune.py experiment=resnet50 data.root=data/abid find=batch_size" in told
