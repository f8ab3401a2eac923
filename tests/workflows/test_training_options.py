"""Options of the Trainer and callbacks that the configuration offers: each does what it says, in a training."""

import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

from stocktake.checkpoints import Checkpoint
from stocktake.evaluation.training_history import read_history
from stocktake.workflows import train as workflow
from stocktake.workflows.evaluate import evaluate
from stocktake.workflows.train import EXIT_INTERRUPTED, train

# No dropout, no batch statistics: what a step does depends on its images alone.
EVEN = ["model.backbone=test_convnext", "model.drop_rate=0"]
SGD = ["model.optimizer._target_=torch.optim.SGD", "~model.optimizer.weight_decay"]
TINY = [
    *("model=small", "model.channels_last=false", "data.image_size_px=32", "data.num_workers=0"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.log_every_n_steps=1", "logger=csv"),
    *("+trainer.enable_model_summary=false", "callbacks.progress=null"),
]


@pytest.fixture
def trained(compose, synthetic_root, tmp_path):
    """Trains with these words in a folder of this name; returns the folder."""

    def run(name: str, *words: str, experiment: str = "resnet50") -> Path:
        words = [f"experiment={experiment}", *TINY, f"data.root={synthetic_root}", *words]
        train(compose("train", *words, output_dir=tmp_path / name))
        return tmp_path / name

    return run


def weights_in(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def best(run: Path) -> dict[str, torch.Tensor]:
    return weights_in(run / "checkpoints/best.ckpt")


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return torch.sqrt(sum((one[name] - other[name]).double().square().sum() for name in one)).item()


def test_two_batches_of_16_take_the_step_of_one_of_32(trained):
    words = [*EVEN, *SGD, "model.optimizer.lr=0.1", "data.limit=32", "trainer.max_epochs=1"]
    whole = trained("whole", *words, "data.batch_size=32")
    halves = trained("halves", *words, "data.batch_size=16", "trainer.accumulate_grad_batches=2")
    start = trained("start", *words, "data.batch_size=32", "model.optimizer.lr=0")
    assert json.loads((halves / "metrics.json").read_text())["steps"] == 1
    assert distance(best(whole), best(start)) > 1e-2
    assert distance(best(whole), best(halves)) < 1e-5


def test_a_run_whose_time_is_up_within_an_epoch_is_validated_and_kept(trained):
    words = ["data.limit=16", "data.batch_size=16", "trainer.max_epochs=1000", "+trainer.check_val_every_n_epoch=1000"]
    run = trained("timed", *words, '+trainer.max_time="00:00:00:01"')
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 < metrics["steps"] == metrics["checkpoint_step"]


def test_a_gradient_is_clipped_to_its_norm(trained):
    words = [*EVEN, *SGD, "data.limit=16", "data.batch_size=16", "trainer.max_epochs=1"]
    start = trained("start", *words, "model.optimizer.lr=0")
    free = trained("free", *words, "model.optimizer.lr=1")
    clipped = trained("clipped", *words, "model.optimizer.lr=1", "trainer.gradient_clip_val=0.01")
    assert distance(best(free), best(start)) > 0.1
    assert distance(best(clipped), best(start)) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("valid/accuracy", ["model.optimizer.lr=0"]),
        ("valid/loss", ["model.optimizer.lr=0.5", "+model.optimizer.maximize=true"]),  # its best is the smallest
    ],
)
def test_a_run_that_no_longer_gets_better_ends(trained, metric, words):
    words = [*EVEN, *SGD, *words, "data.limit=16", "data.batch_size=16", "data.augment=null", "trainer.max_epochs=4"]
    options = ["callbacks=early_stopping", "callbacks.progress=null", "callbacks.early_stopping.patience=2"]
    run = trained("run", *words, *options, f"optimized_metric={metric}")
    losses = [row["valid/loss"] for row in read_history(run) if "valid/loss" in row]
    assert len(losses) == 1 + 2, "the first one, and two that were no better"
    assert losses == sorted(losses)


def put_before_the_callbacks(monkeypatch, callback: Callback) -> None:
    original = workflow.build_all
    monkeypatch.setattr(
        workflow, "build_all", lambda node: [callback, *original(node)] if "best" in (node or {}) else original(node)
    )


class Watch(Callback):
    """Keeps the parameters as they are after each step."""

    def __init__(self):
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, module, *_):
        self.steps.append({name: value.detach().clone() for name, value in module.named_parameters()})


def test_the_mean_of_the_weights_is_what_is_validated_kept_and_evaluated(trained, compose, monkeypatch):
    watch = Watch()
    put_before_the_callbacks(monkeypatch, watch)
    words = ["model.backbone=test_resnet", "data.batch_size=8", "data.limit=40", "trainer.max_epochs=1"]
    run = trained("run", *words, "callbacks=finetune", "callbacks.progress=null", "callbacks.average.decay=0.6")
    mean = watch.steps[0]
    for weights in watch.steps[1:]:
        mean = {name: 0.6 * mean[name] + 0.4 * weights[name] for name in mean}
    kept = best(run)
    for name, value in mean.items():
        torch.testing.assert_close(kept[name], value, msg=name)
    assert distance({name: kept[name] for name in mean}, watch.steps[-1]) > 1e-3, "the last step's are others"
    assert "backbone.layer1.0.bn1.running_mean" in kept

    path = run / "checkpoints/best.ckpt"
    assert torch.equal(Checkpoint.open(str(path)).model.state_dict()["backbone.fc.weight"], kept["backbone.fc.weight"])
    words = [f"checkpoint={path}", f"output_dir={run / 'evaluation'}", "split=valid", "limit=40", "num_workers=0"]
    said = evaluate(compose("evaluate", *words, "accelerator=cpu"))
    logged = json.loads((run / "metrics.json").read_text())
    assert said["rmse_expected"] == pytest.approx(logged["valid/rmse_expected"], rel=1e-4)


class Compiled:
    """Counts the graphs that torch.compile makes, without a C++ compiler."""

    def __init__(self):
        self.num_graphs = 0

    def __call__(self, graph, _inputs):
        self.num_graphs += 1
        return graph.forward


def test_a_compiled_backbone_learns_the_same_under_the_same_names(trained, monkeypatch):
    words = ["model.backbone=test_resnet", "data.batch_size=16", "data.limit=16", "trainer.max_epochs=1"]
    plain = best(trained("plain", *words))
    compiled, original = Compiled(), torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: original(module, backend=compiled))
    run = trained("compiled", *words, "model.torch_compile=true")
    assert compiled.num_graphs > 0
    assert best(run).keys() == plain.keys()
    assert distance(best(run), plain) < 1e-4
    Checkpoint.open(str(run / "checkpoints/best.ckpt"))


@pytest.mark.parametrize(
    "extra",
    [
        ["trainer.accumulate_grad_batches=2"],
        [
            "+callbacks.average._target_=stocktake.callbacks.weight_average.WeightAverage",
            "+callbacks.average.decay=0.6",
        ],
    ],
    ids=["accumulated", "averaged"],
)
def test_an_interrupted_run_goes_on_exactly(trained, monkeypatch, extra, tmp_path, capsys):
    words = ["model.backbone=test_resnet", "data.batch_size=8", "data.limit=40", "trainer.max_epochs=2", *extra]
    whole = trained("whole", *words, "scheduler=one_cycle", experiment="resnet50_spot")
    num_steps = json.loads((whole / "metrics.json").read_text())["steps"]
    assert num_steps == (6 if "accumulate" in extra[0] else 10)
    shown = [
        line.split()[0]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("step=") and "train/loss" in line
    ]
    assert shown == [f"step={step}/{num_steps}" for step in range(1, num_steps + 1)]

    class Stop(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_index):
            if (trainer.current_epoch, batch_index) == (1, 2):  # the third batch: with two a step, the second step's
                trainer.checkpoint_callbacks[-1]._is_stopping = True

    with monkeypatch.context() as patched:
        put_before_the_callbacks(patched, Stop())
        with pytest.raises(SystemExit) as caught:
            trained("stopped", *words, "scheduler=one_cycle", experiment="resnet50_spot")
    assert caught.value.code == EXIT_INTERRUPTED
    stopped = trained("stopped", *words, "scheduler=one_cycle", experiment="resnet50_spot")
    one, other = (max((run / "checkpoints").glob("step-*.ckpt")) for run in (whole, stopped))
    assert one.name == other.name
    assert distance(weights_in(one), weights_in(other)) == 0
    assert distance(best(whole), best(stopped)) == 0
    if any("average" in word for word in extra):
        ours, theirs = (torch.load(path, weights_only=True)["current_model_state"] for path in (one, other))
        assert distance(ours, theirs) == 0
        assert distance(ours, weights_in(one)) > 0
