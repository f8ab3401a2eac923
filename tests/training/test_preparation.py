"""What is refused before the first step of a training, and what is said at its start and end."""

import pathlib
from functools import partial

import pytest
import torch
from evaluation_results import make_result, make_subject
from omegaconf import OmegaConf
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

from stocktake.evaluation.evaluation_result import Baseline
from stocktake.evaluation.results import Evaluation, EvaluationError
from stocktake.hardware import require_accelerator
from stocktake.metrics.estimate import Estimate
from stocktake.model.counter import BinCounter, open_lengths
from stocktake.model.heads import SoftmaxHead
from stocktake.storage import StorageOptions
from stocktake.training.preparation import require_size, resolve_auto, what_is_shown
from stocktake.workflows.evaluate import last_lines

CONF = pathlib.Path(__file__).parents[2] / "conf"


def counter(backbone: str = "resnet10t", **options) -> BinCounter:
    optimizer = partial(torch.optim.SGD, lr=0.1)
    return BinCounter(backbone, [1, 2, 3], SoftmaxHead(), optimizer, weights="none", **options)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 5, 8])
def test_the_shortest_one_cycle_runs(num_steps):
    module = counter(scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, pct_start=0.25))
    module.trainer = Trainer(max_steps=num_steps, logger=False, accelerator="cpu", enable_progress_bar=False)
    type(module.trainer).estimated_stepping_batches, kept = num_steps, Trainer.estimated_stepping_batches
    try:
        configured = module.configure_optimizers()
    finally:
        Trainer.estimated_stepping_batches = kept
    rates = []
    for _ in range(num_steps - 1):
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
        rates.append(configured["optimizer"].param_groups[0]["lr"])
    assert all(0 < rate <= 0.1 for rate in rates)


@pytest.mark.parametrize(
    ("schedule", "lengths"),
    [
        (partial(torch.optim.lr_scheduler.CosineAnnealingLR), {"T_max"}),
        (partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=3), set()),
        (partial(torch.optim.lr_scheduler.OneCycleLR, total_steps=None), {"total_steps"}),
        (partial(torch.optim.lr_scheduler.OneCycleLR, epochs=2, steps_per_epoch=5), set()),
        (partial(torch.optim.lr_scheduler.StepLR, step_size=2), set()),
    ],
)
def test_a_length_that_was_typed_is_kept(schedule, lengths):
    assert open_lengths(schedule) == lengths


def test_rates_that_were_typed_are_kept():
    module = counter(scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.5, total_steps=10, pct_start=0.5))
    scheduler = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    assert (scheduler.total_steps, scheduler.optimizer.param_groups[0]["max_lr"]) == (10, 0.5)


def test_each_callback_looks_the_way_of_its_own_metric(compose):
    words = ["callbacks=early_stopping", "callbacks.early_stopping.monitor=valid/loss"]
    resolve_auto(cfg := compose("train", "experiment=demo", *words))
    assert (cfg.callbacks.best.mode, cfg.callbacks.early_stopping.mode) == ("max", "min")


def test_a_training_of_two_metrics_is_refused(compose):
    with pytest.raises(ValueError, match="valid/mae is not optimized_metric=valid/accuracy"):
        resolve_auto(compose("train", "experiment=demo", "callbacks.best.monitor=valid/mae"))


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=r"cuda: .* there are auto, cpu. Type trainer.accelerator=auto"):
        require_accelerator("trainer.accelerator", "cuda")
    require_accelerator("trainer.accelerator", "auto")


def test_a_size_that_the_backbone_does_not_take_is_refused():
    backbone = LightningModule()
    backbone.pretrained_cfg = {"input_size": (3, 224, 224), "fixed_input_size": True}
    with pytest.raises(ValueError, match=r"takes images of 224 px only, not of 96. Type data.image_size_px=224"):
        require_size(backbone, "swin_tiny_patch4_window7_224", 96, None)
    require_size(backbone, "swin_tiny_patch4_window7_224", 224, None)


def test_without_a_bar_of_ours_there_is_none():
    assert what_is_shown(OmegaConf.create({}), [])["enable_progress_bar"] is False
    assert what_is_shown(OmegaConf.create({}), [RichProgressBar()])["enable_progress_bar"] is True
    assert what_is_shown(OmegaConf.create({"enable_model_summary": True}), []) == {"enable_progress_bar": False}


def test_the_last_lines_have_two_digits_and_intervals():
    figures = {"accuracy": Estimate(0.38671, 0.36649, 0.41123), "rmse": Estimate(1.1823, is_share=False)}
    result = make_result(
        subject=make_subject(num_images=1804, checkpoint="my runs/checkpoints/best.ckpt"),
        metrics={**make_result().metrics, **figures},
        majority_baseline=Baseline({"accuracy": Estimate(0.2741)}, 2),
    )
    assert last_lines(result, "my runs/report.html").splitlines() == [
        "1,804 bins (test), 95 % intervals: Exact count (accuracy) 0.39 (0.37 to 0.41); RMSE, in items 1.18; "
        "Mean absolute error, in items 0.81 (0.78 to 0.84); At most one off 0.82 (0.79 to 0.85).",
        "Always the most frequent count: exact 0.27.",
        "Open my runs/report.html",
        """Type next: python scripts/export.py 'checkpoint="my runs/checkpoints/best.ckpt"'""",
    ]


def test_a_folder_without_an_evaluation_is_told_with_a_checkpoint_that_is_there(tmp_path):
    run = tmp_path / "my run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "evaluation-test").mkdir()
    with pytest.raises(EvaluationError, match=r"Type a folder that scripts/evaluate\.py wrote"):
        Evaluation.read(str(run / "evaluation-test"), StorageOptions())
    (run / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(EvaluationError, match=f"""evaluate.py 'checkpoint="{run}/checkpoints/best.ckpt"'$"""):
        Evaluation.read(str(run / "evaluation-test"), StorageOptions())


def test_the_choices_that_help_lists_are_those_there_are():
    listed = {}
    for line in (CONF / "hydra/help/choices.yaml").read_text().split("Choices:")[1].split("Any value")[0].splitlines():
        if line.strip():
            group, names = line.split(maxsplit=1)
            listed[group] = names.split(", ")
    for group, names in listed.items():
        assert names == sorted(path.stem for path in (CONF / group).glob("*.yaml")), group
