"""The best trial as an experiment: it composes to what the trial was trained with, whatever had been typed."""

import shutil
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from searches import make_search

from stocktake.config import composed
from stocktake.training.job_check import binding_errors
from stocktake.tuning.best_experiment import best_experiment
from stocktake.tuning.search_space import SearchSpace
from stocktake.tuning.trials import SearchResult, Trial

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SPACE = {
    "head": {"choice": ["corn", "softmax"]},
    "scheduler": {"choice": ["one_cycle", "cosine"]},
    "model.optimizer.lr": {"range": [1e-6, 1e-2], "log": True},
    "model.drop_rate": {"range": [0.0, 0.7]},
    "data.augment.rotate_deg": {"range": [0, 10]},
    "model.optimizer.weight_decay": {"choice": [0.0, "${model.drop_rate}"]},
}
VALUES = {
    "head": "corn",
    "scheduler": "cosine",
    "model.optimizer.lr": 5e-5,
    "model.drop_rate": 0.25,
    "data.augment.rotate_deg": 3,
}


@pytest.fixture(scope="module")
def conf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("repository") / "conf"
    shutil.copytree(CONF, folder)
    return folder


def made(conf: Path, fixed: list[str], space=None, values=None, **changes):
    trial = Trial(3, "complete", VALUES if values is None else values, 0.81234)
    result = SearchResult("lr_dropout", "tpe", "valid/accuracy", SearchSpace.of(space or SPACE), [trial], fixed, 8)
    experiment = best_experiment(result, trial, conf.parent / "runs/sweep", conf, "2026-11-29")
    (conf / "experiment" / f"{experiment.name}.yaml").write_text(experiment.content)
    return experiment, result.space.overrides(trial.values)


def plain(conf: Path, *overrides: str) -> dict:
    return unnamed(composed(str(conf), "train", overrides))


def unnamed(cfg) -> dict:
    found = OmegaConf.to_container(cfg, resolve=False)
    return {key: value for key, value in found.items() if key not in ("name", "run_dir")}


def test_it_is_a_short_diff_with_its_origin(conf):
    experiment, _ = made(conf, ["experiment=mobilenet_transfer", "data.num_workers=2"])
    assert experiment.name == "mobilenet_transfer_lr_dropout_best"
    assert experiment.content.splitlines() == [
        "# @package _global_",
        f"# The best trial of the search in {conf.parent}/runs/sweep, which writes it anew; another search does not.",
        "# valid/accuracy 0.81234 in trial 3, the best of 1 validations and so optimistic; tpe, 2026-11-29.",
        "defaults:",
        "  - mobilenet_transfer",
        "  - override /head: corn",
        "  - override /scheduler: cosine",
        "  - _self_",
        "",
        "name: mobilenet_transfer_lr_dropout_best",
        "data:",
        "  num_workers: 2",
        "  augment:",
        "    rotate_deg: 3",
        "model:",
        "  optimizer:",
        "    lr: 5.0e-05",
        "  drop_rate: 0.25",
    ]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_shipped_experiment_becomes_one_that_composes_to_the_trial(conf, name):
    fixed = [f"experiment={name}"] + ["checkpoint=a.ckpt"] * (name == "resnet50_finetune")
    experiment, values = made(conf, fixed)
    cfg = composed(str(conf), "train", [f"experiment={experiment.name}"])
    assert unnamed(cfg) == plain(conf, *fixed, *values)
    assert cfg.name == experiment.name and cfg.model.optimizer.lr == 5e-5 and cfg.model.drop_rate == 0.25
    resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    assert binding_errors(resolved) == []


@pytest.mark.parametrize(
    "fixed",
    [
        [],  # a bare train.py's experiment
        ["experiment=demo", "head=softmax", "scheduler=cosine", "model=resnet50", "logger=[csv]"],
        ["experiment=demo", "logger=csv", "data.root='/a b/[c], d'", 'run_name="1e-3"', "seed=7"],
        ["experiment=demo", "+trainer.min_epochs=2", "++trainer.max_epochs=3"],
        ["experiment=demo", "~compute", "data.augment={vertical_flip: 0.0, color: 0.1}", "data.augment.color=0.2"],
        ["experiment=demo", "data.counts=[1,2]", "data.root=${oc.env:HOME}/bins", "callbacks=early_stopping"],
        ["experiment=demo", r"data.root=\"a\${b}\""],
        ["experiment=demo", "+find=lr"],  # a group that train.py does not have
        ["experiment=resnet50", "+model.optimizer.betas=[0.9,0.99]"],
    ],
    ids=" ".join,
)
def test_whatever_was_typed_composes_to_the_same(conf, fixed):
    fixed = [word.replace('\\"', '"') for word in fixed]
    experiment, values = made(conf, fixed)
    assert experiment.left_out == []
    assert plain(conf, f"experiment={experiment.name}") == plain(conf, *fixed, *values)


def test_a_choice_and_a_key_of_that_choice_go_together(conf):
    space = {
        "head": {"choice": ["soft", "smooth"]},
        "head.spread_items": {"range": [0.3, 1.0], "when": {"head": "soft"}},
    }
    experiment, values = made(conf, ["experiment=demo"], space, {"head": "soft", "head.spread_items": 0.75})
    assert plain(conf, f"experiment={experiment.name}") == plain(conf, "experiment=demo", *values)


def test_what_no_file_can_hold_is_told_and_typed_besides(conf):
    fixed = ["experiment=demo", "~data.augment.color", "+compute.environment.API_KEY=verysecret", "name=mine"]
    experiment, values = made(conf, fixed)
    assert experiment.left_out == ["~data.augment.color", "+compute.environment.API_KEY=***"]
    assert "# To be typed besides: ~data.augment.color" in experiment.content and "verysecret" not in experiment.content
    both = plain(conf, f"experiment={experiment.name}", "~data.augment.color")
    assert both == plain(conf, "experiment=demo", "~data.augment.color", *values)


def test_the_trial_has_the_last_word_also_of_what_was_typed(conf):
    experiment, _ = made(conf, ["experiment=demo", "head=smooth", "model.drop_rate=0.6"])
    cfg = composed(str(conf), "train", [f"experiment={experiment.name}"])
    assert cfg.head["_target_"].endswith("CornHead") and cfg.model.drop_rate == 0.25
    longer = composed(str(conf), "train", [f"experiment={experiment.name}", "head=softmax", "trainer.max_epochs=9"])
    assert longer.head["_target_"].endswith("SoftmaxHead") and longer.trainer.max_epochs == 9


def test_values_are_data_and_stay_text(conf):
    hostile = "!!python/object:os.system ${oc.env:HOME} # 'quoted'\nname: other"
    space = {"run_name": {"choice": [hostile, "1e-3"]}}
    experiment, _ = made(conf, ["experiment=demo"], space, {"run_name": hostile})
    body = yaml.safe_load(experiment.content)
    assert body["name"] == experiment.name and "\n" in body["run_name"]
    assert made(conf, ["experiment=demo"], space, {"run_name": "1e-3"})[0].content.endswith("run_name: '1e-3'\n")


def test_only_a_file_of_the_same_search_may_be_replaced(conf, tmp_path):
    experiment, _ = made(conf, ["experiment=demo"])
    file = tmp_path / "demo_lr_dropout_best.yaml"
    assert experiment.may_replace(file)
    file.write_text(experiment.content.replace("0.25", "0.3"))
    assert experiment.may_replace(file)
    file.write_text("# @package _global_\n# Mine.\nname: demo\n")
    assert not experiment.may_replace(file)
    trial = make_search().ranked[0]
    other = best_experiment(make_search(), trial, tmp_path / "another", conf, "2026-11-29")
    file.write_text(other.content)
    assert not experiment.may_replace(file)
