"""Checkpoints whose configuration names code, given to every command that reads one: refused by name, nothing runs."""

import copy
import pickle

import pytest
import torch
from untrained import COUNTS, write_checkpoint

from stocktake.callbacks.run_config import CONFIG_KEY
from stocktake.checkpoints import Checkpoint, CheckpointError, start_from
from stocktake.workflows.ensemble import combine
from stocktake.workflows.evaluate import evaluate
from stocktake.workflows.export import export
from stocktake.workflows.predict import predict
from stocktake.workflows.train import train
from stocktake.workflows.tune import tune


class Touch:
    """Leaves a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def attacks(folder):
    """Returns what to put where in a run's configuration; each leaves the file `marker` if it is ever run."""
    marker = folder / "marker"
    (folder / "hubconf.py").write_text(f"def count():\n    open({str(marker)!r}, 'w')\n")
    (folder / "pickled.pt").write_bytes(pickle.dumps(Touch(marker)))
    touch = f"touch '{marker}'"
    return {
        "sympify": (
            "model.head",
            {"_target_": "sympy.sympify", "a": f"__import__('pathlib').Path({str(marker)!r}).touch()"},
        ),
        "load_inline": (
            "model.head",
            {
                "_target_": "torch.utils.cpp_extension.load_inline",
                "name": "named",
                "cpp_sources": "",
                "build_directory": str(folder),
                "extra_cflags": [f"; {touch}; true"],
            },
        ),
        "torch_load": (
            "model.head",
            {"_target_": "torch.load", "f": str(folder / "pickled.pt"), "weights_only": False},
        ),
        "hub": (
            "model.head",
            {"_target_": "torch.hub.load", "repo_or_dir": str(folder), "model": "count", "source": "local"},
        ),
        "write_text": (
            "model.head",
            {
                "_target_": "pathlib.Path.write_text",
                "_args_": [{"_target_": "pathlib.Path", "_args_": [str(marker)]}, "written"],
            },
        ),
        "run": ("model.layer_decay", {"_target_": "torch.utils.collect_env.run", "command": touch}),
        "open": ("model.drop_rate", {"_target_": "builtins.open", "file": str(marker), "mode": "w"}),
        "in a list": ("model.mean", [{"_target_": "builtins.open", "file": str(marker), "mode": "w"}, 0.5, 0.5]),
        "whole model": ("model", {"_target_": "builtins.open", "file": str(marker), "mode": "w"}),
        "under a head": (
            "model.head.label_smoothing",
            {"_target_": "builtins.open", "file": str(marker), "mode": "w"},
        ),
        "another key": ("model.more", {"_target_": "builtins.open", "file": str(marker), "mode": "w"}),
        "interpolation": ("model.backbone", "${oc.env:HOME}"),
        "interpolated root": ("data.root", "s3://bins/${oc.env:HOME}"),
        "hub's name": ("model.backbone", "hf-hub:timm/resnet10t.c3_in1k"),
        "folder's name": ("model.backbone", f"local-dir:{folder}"),
        "member": (
            "model",
            {"_target_": "stocktake.model.ensemble.Ensemble", "members": [{"_target_": "sympy.sympify", "a": "1"}]},
        ),
    }


NAMED = {  # what the refusal has to name
    "sympify": r"model\.head\._target_='sympy\.sympify'",
    "load_inline": r"model\.head\._target_='torch\.utils\.cpp_extension\.load_inline'",
    "torch_load": r"model\.head\._target_='torch\.load'",
    "hub": r"model\.head\._target_='torch\.hub\.load'",
    "write_text": r"model\.head\._target_='pathlib\.Path\.write_text'",
    "run": r"model\.layer_decay=\{'_target_': 'torch\.utils\.collect_env\.run'",
    "open": r"model\.drop_rate=\{'_target_': 'builtins\.open'",
    "in a list": r"model\.mean=\[\{'_target_': 'builtins\.open'",
    "whole model": r"model\._target_='builtins\.open'",
    "under a head": r"model\.head\.label_smoothing=\{'_target_': 'builtins\.open'",
    "another key": r"model has the unknown key 'more'",
    "interpolation": r"model\.backbone='\$\{oc\.env:HOME\}' is to be resolved",
    "interpolated root": r"data\.root='s3://bins/\$\{oc\.env:HOME\}' is to be resolved",
    "hub's name": r"model\.backbone='hf-hub:timm/resnet10t\.c3_in1k' is no model of timm's",
    "folder's name": r"model\.backbone='local-dir:.*' is no model of timm's",
    "member": r"model\.members\[0\]\._target_='sympy\.sympify'",
}


@pytest.fixture(scope="module")
def honest(synthetic_root, tmp_path_factory):
    """A checkpoint that nobody tampered with, and what it holds."""
    path = write_checkpoint(tmp_path_factory.mktemp("honest"), synthetic_root)
    return path, torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def commands(compose, honest, synthetic_root):
    """What reads a checkpoint, each a function of its path."""
    picture = next(synthetic_root.glob("data/test/1/*.jpg"))
    cfgs = {
        "evaluate": (evaluate, compose("evaluate", "checkpoint=x", "num_workers=0"), "checkpoint"),
        "predict": (predict, compose("predict", "checkpoint=x", f"images=[{picture}]", "device=cpu"), "checkpoint"),
        "export": (export, compose("export", "checkpoint=x", "num_checked=1"), "checkpoint"),
        "ensemble": (combine, compose("ensemble", "checkpoints=[x]", "num_workers=0"), "checkpoints"),
    }

    def run(name, path, output):
        command, cfg, key = cfgs[name]
        cfg = copy.deepcopy(cfg)
        cfg[key] = [str(honest[0]), str(path)] if key == "checkpoints" else str(path)
        if "output_dir" in cfg:
            cfg.output_dir = str(output)
        return command(cfg)

    return run


def tampered(honest, folder, attack):
    """Writes the honest checkpoint with one value of its configuration replaced."""
    key, value = attacks(folder)[attack]
    state = copy.deepcopy(honest[1])
    *above, last = key.split(".")
    node = state[CONFIG_KEY]
    for name in above:
        node = node[name]
    node[last] = value
    torch.save(state, folder / "best.ckpt")
    return folder / "best.ckpt"


@pytest.mark.parametrize("command", ["evaluate", "predict", "export", "ensemble"])
@pytest.mark.parametrize("attack", NAMED)
def test_every_command_refuses_it_by_name(honest, commands, tmp_path, command, attack):
    checkpoint = tampered(honest, tmp_path, attack)
    with pytest.raises(CheckpointError, match=f"best.ckpt is refused: {NAMED[attack]}"):
        commands(command, checkpoint, tmp_path / "output")
    assert not (tmp_path / "marker").exists()
    assert not [path for path in tmp_path.rglob("output/**/*") if path.is_file()]


@pytest.mark.parametrize("attack", NAMED)
def test_no_training_starts_from_it(honest, tmp_path, attack):
    with pytest.raises(CheckpointError, match=f"best.ckpt is refused: {NAMED[attack]}"):
        start_from(Checkpoint.open(str(honest[0])).model, str(tampered(honest, tmp_path, attack)))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(("name", "command"), [("train", train), ("tune", tune)])
def test_train_and_tune_refuse_it(compose, honest, synthetic_root, tmp_path, name, command):
    words = [f"data.root={synthetic_root}", "data.num_workers=0", "data.image_size_px=32", "logger=none"]
    words += [f"+checkpoint={tampered(honest, tmp_path, 'run')}", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(CheckpointError, match=f"best.ckpt is refused: {NAMED['run']}"):
        command(compose(name, "experiment=demo", "trainer.accelerator=cpu", *words))
    assert not (tmp_path / "marker").exists()


def test_a_pickled_object_is_refused_without_the_advice_to_trust_it(honest, tmp_path):
    torch.save(honest[1] | {"more": Touch(tmp_path / "marker")}, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match=r"holds something else than tensors and plain values") as caught:
        Checkpoint.open(str(tmp_path / "best.ckpt"))
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("name", None, "no name like that of a run"),
        ("data", [], "no data like that of a run"),
        ("model", "resnet50", "no model like that of a run"),
        ("data.root", 3, r"data\.root=3 is not of the kind"),
        ("data.counts", "all", r"data\.counts='all' is not of the kind"),
        ("model.counts", [1, "2"], r"model\.counts=\[1, '2'\] is not of the kind"),
        ("model.counts", [1, 2], "size mismatch"),
        ("model.drop_rate", float("nan"), r"model\.drop_rate=nan is not of the kind"),
        ("model.std", torch.ones(3), r"model\.std is a Tensor, no plain value"),
        ("model.head", None, r"model\.head=None is not of the kind"),
        ("members", ["resnet50"], "its configuration has no name or model or data"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_name(honest, tmp_path, key, value, named):
    state = copy.deepcopy(honest[1])
    *above, last = key.split(".")
    node = state[CONFIG_KEY]
    for name in above:
        node = node[name]
    node[last] = value
    torch.save(state, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match=named):
        Checkpoint.open(str(tmp_path / "best.ckpt"))


def test_a_training_s_own_parts_are_neither_built_nor_in_the_way(honest, tmp_path):
    state = copy.deepcopy(honest[1])
    state[CONFIG_KEY]["model"] |= {
        "weights": "gone.safetensors",
        "optimizer": {"_target_": "my_optimizers.Mine", "_partial_": True, "lr": 0.1},
        "scheduler": {"_target_": "builtins.open", "file": str(tmp_path / "marker"), "mode": "w"},
        "scheduler_interval": "epoch",
        "layer_decay": 0.8,
        "torch_compile": True,
    }
    torch.save(state, tmp_path / "best.ckpt")
    model = Checkpoint.open(str(tmp_path / "best.ckpt")).model
    assert (model.optimizer, model.scheduler, model.layer_decay, model.counts) == (None, None, None, COUNTS)
    assert not (tmp_path / "marker").exists()
