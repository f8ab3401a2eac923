"""What would end a job in its first seconds is found before it is sent."""

import pytest
from omegaconf import OmegaConf

from stocktake.training.job_check import missing_values, run_problems, wrong_values


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.backbone=resnt50"], "model.backbone='resnt50' is no model of timm's; near it are resnet50"),
        (["trainer.max_epochs=abc"], "trainer.max_epochs='abc' is a str; it must be int or null"),
        (["model.optimizer.lr=abc"], "model.optimizer.lr='abc' is a str"),
        (["data.batch_size=1.5"], "data.batch_size=1.5 is a float; it must be int"),
        (["data.counts=3"], "data.counts=3 is a int"),
        (["data.counts=[1,x]"], "data.counts=[1, 'x'] is a list"),
        (["data.limit=true"], "data.limit=True is a bool"),
        (["+model.drop_rat=0.2"], "model.drop_rat: stocktake.model.counter.BinCounter does not take it"),
        (["~data.root"], "data: stocktake.data.datamodule.BinDataModule: missing a required argument: 'root'"),
        (["head._target_=stocktake.model.heads.CornHed"], "cannot be imported"),
        (["model.optimizer._target_=mine.Adam"], "_target_=mine.Adam cannot be imported: No module named 'mine'"),
        (["model.backbone=resnet200"], "timm has no weights for model.backbone=resnet200"),
        (["run_dir=${oc.env:NOT_SET_IN_THE_JOB}"], "NOT_SET_IN_THE_JOB"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(compose, words, told):
    found = list(wrong_values(compose("train", "experiment=resnet50", *words)))
    assert any(told in text for text in found), found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["callbacks.best.monitor=valid/loss"], "Type optimized_metric=valid/loss in the place of"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0 trains nothing. Type trainer.max_epochs=1 or more"),
        (["+trainer.limit_train_batches=0"], "trainer.limit_train_batches=0 trains nothing"),
        (["trainer.max_epochs=-1"], "no number of epochs or steps says how long that is. Type trainer.max_epochs="),
        (
            ["trainer.max_epochs=null", '+trainer.max_time="00:01:00:00"'],
            ", +trainer.max_steps=<number> or model.scheduler=null",
        ),
        (
            ["trainer.max_epochs=-1", "+trainer.max_steps=20", "model.scheduler_interval=epoch"],
            "no number of epochs says how long that is. Type trainer.max_epochs=<number>, model.scheduler_interval=s",
        ),
    ],
)
def test_what_does_not_go_together_is_told(compose, words, told):
    (found,) = wrong_values(compose("train", "experiment=demo", *words))
    assert told in found


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.max_epochs=-1", "+trainer.max_steps=20"],
        ["trainer.max_epochs=null"],
        ["trainer.max_epochs=-1", "model.scheduler=null"],
        ["trainer.max_epochs=-1", "+scheduler.total_steps=20"],
        ["callbacks.best=null"],
        ["callbacks=early_stopping", "callbacks.early_stopping.monitor=valid/loss"],
    ],
)
def test_what_goes_together_is_not(compose, words):
    assert list(wrong_values(compose("train", "experiment=demo", *words))) == []


@pytest.mark.parametrize("name", ["resnet50", "resnet50_spot", "demo", "mobilenet_progressive", "resnet50_finetune"])
def test_the_shipped_experiments_have_nothing_wrong(compose, name):
    words = ["+optional=x"] if name == "resnet50_finetune" else []
    assert list(wrong_values(compose("train", f"experiment={name}", *words))) == []


def test_what_an_experiment_leaves_to_the_user_is_missing(compose):
    assert list(missing_values(compose("train", "experiment=mobilenet_transfer"))) == [
        "model.weights has no value in experiment=mobilenet_transfer. Type model.weights=<value>"
    ]


def test_a_run_of_other_words_is_told_before_a_job_goes_on_with_it(compose):
    began = compose("train", "experiment=resnet50")
    began.trainer.precision, began.model.channels_last = "bf16-mixed", True  # what `auto` became there
    before = OmegaConf.to_yaml(began, resolve=True)
    same = compose("train", "experiment=resnet50", "compute.num_instances=3")
    assert list(run_problems(same, before)) == []
    assert list(run_problems(compose("train", "experiment=resnet50", "trainer.max_epochs=60"), before)) == []
    (told,) = run_problems(compose("train", "experiment=resnet50", "model.optimizer.lr=0.1"), before)
    assert "model.optimizer.lr was 0.001, is 0.1" in told
    assert "run_name=<new>" in told


def test_a_longer_run_is_told_where_the_schedule_depends_on_the_length(compose):
    overrides = ["experiment=resnet50", "scheduler=one_cycle"]
    before = OmegaConf.to_yaml(compose("train", *overrides), resolve=True)
    (told,) = run_problems(compose("train", *overrides, "trainer.max_epochs=60"), before)
    assert "OneCycleLR spreads the learning rate over the whole run" in told
