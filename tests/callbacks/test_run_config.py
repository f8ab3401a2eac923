"""A checkpoint knows the words that made it, and goes on under no others."""

import pkgutil

import pytest
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint

from stocktake.callbacks.run_config import CONFIG_KEY, RENAMED_TARGETS, OtherConfig, RunConfig
from stocktake.training.resume import MAY_DIFFER

CONFIG = {"seed": 0, "data": {"root": "a", "counts": [1, 2]}, "model": {"optimizer": {"lr": 0.1}, "scheduler": None}}


def resume(before: dict, now: dict, may_differ: list[str] | None = None) -> None:
    checkpoint = {}
    RunConfig(before, []).on_save_checkpoint(None, None, checkpoint)
    assert checkpoint == {CONFIG_KEY: before}
    RunConfig(now, may_differ or []).on_load_checkpoint(None, None, checkpoint)


def test_the_same_words_go_on():
    assert resume(CONFIG, CONFIG) is None  # other words raise


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"optimizer": {"lr": 0.2}, "scheduler": None}}, r"model\.optimizer\.lr was 0\.1, is 0\.2"),
        ({"data": {"root": "a", "counts": [1, 2, 3]}}, r"data\.counts was \[1, 2\], is \[1, 2, 3\]"),
        ({"model": {"optimizer": {"lr": 0.1}}, "more": 3}, r"more was None, is 3"),
        ({"model": {"optimizer": {"lr": 0.1}, "scheduler": {"step": 3}}}, r"model\.scheduler\.step was None, is 3"),
        ({"seed": 1, "data": {"root": "b", "counts": [1, 2]}}, r"seed was 0, is 1"),
    ],
)
def test_other_words_are_refused_with_the_key_that_differs(change, named):
    with pytest.raises(OtherConfig, match=named) as caught:
        resume(CONFIG, CONFIG | change, ["data.root"])
    assert "run_name=<new>" in str(caught.value)
    assert "data.root" not in str(caught.value)


def test_a_run_from_before_a_key_was_there_goes_on_as_it_did():
    now = CONFIG | {"model": CONFIG["model"] | {"decay_norms": True}, "trainer": {"sync_batchnorm": False}}
    resume(CONFIG, now)
    with pytest.raises(OtherConfig, match=r"model\.decay_norms was True, is False"):
        resume(CONFIG, now | {"model": CONFIG["model"] | {"decay_norms": False}})


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=mobilenet_transfer", "callbacks=finetune"],
        ["callbacks=spot"],
        ["data=abid", "data.augment.color=0.1"],
    ],
)
def test_a_run_from_before_names_changed_goes_on(compose, overrides):
    """As it lies in checkpoints of before: keys and classes under the names that they had then."""
    words = [*overrides, "model.weights=none"]
    now = OmegaConf.to_container(compose("train", *words), resolve=True)
    before = OmegaConf.to_container(compose("train", *words), resolve=True)
    callbacks, augment = before["callbacks"], before["data"]["augment"]
    if augment:
        augment["colour"] = augment.pop("color")
    callbacks["step_lines"] = callbacks.pop("step_logger") | {"_target_": "stocktake.callbacks.step_lines.StepLines"}
    callbacks["progress"]["_target_"] = "stocktake.callbacks.unhurried.UnhurriedProgressBar"
    callbacks["throughput"]["_target_"] = "stocktake.callbacks.unhurried.UnhurriedThroughputMonitor"
    callbacks["throughput"]["batch_size_fn"]["_target_"] = "stocktake.data.stream.num_images"
    if "freeze_backbone" in callbacks:
        callbacks["head_first"] = callbacks.pop("freeze_backbone") | {
            "_target_": "stocktake.callbacks.head_first.HeadFirst"
        }
    for may_differ in (MAY_DIFFER, ["run_dir", "checkpoint_dir"]):
        resume(before, now, may_differ)
    if "head_first" in callbacks:
        callbacks["head_first"]["num_epochs"] = 2
        with pytest.raises(OtherConfig, match=r"callbacks\.freeze_backbone\.num_epochs was 2, is 1\."):
            resume(before, now, MAY_DIFFER)


@pytest.mark.parametrize("target", RENAMED_TARGETS.values())
def test_classes_of_before_are_there_under_their_new_names(target):
    assert callable(pkgutil.resolve_name(target))


def test_what_does_not_change_the_result_may_differ():
    resume(CONFIG, CONFIG | {"data": {"root": "b", "counts": [1, 2]}}, ["data.root"])
    resume(CONFIG, CONFIG | {"data": {"root": "b", "counts": [3]}}, ["data"])
    with pytest.raises(OtherConfig, match=r"data\.root_2"):
        resume(CONFIG, CONFIG | {"data": {"root": "a", "counts": [1, 2], "root_2": 1}}, ["data.root"])


def test_a_checkpoint_of_something_else_is_told():
    with pytest.raises(OtherConfig, match=r"train\.py did not write"):
        RunConfig(CONFIG, []).on_load_checkpoint(None, None, {"state_dict": {}})


@pytest.mark.parametrize("url", ["folder", "s3://bins/checkpoints"])
@pytest.mark.parametrize("key", ["best_model_path", "kth_best_model_path", "last_model_path", "best_k_models"])
@pytest.mark.parametrize("path", ["s3://others/best.ckpt", "/somewhere/else", "{folder}/../else", "{folder}-2/a.ckpt"])
def test_no_checkpoint_has_a_file_outside_its_folder_removed(tmp_path, url, key, path):
    folder = str(tmp_path) if url == "folder" else url
    callback = ModelCheckpoint(dirpath=str(tmp_path), monitor="step", save_top_k=2)
    state = callback.state_dict() | {"dirpath": folder, "best_model_path": f"{folder}/step-1.ckpt"}
    checkpoint = {CONFIG_KEY: CONFIG, "callbacks": {callback.state_key: state, "Other": {"patience": 3}, "None": None}}
    RunConfig(CONFIG, []).on_load_checkpoint(None, None, checkpoint)
    named = path.format(folder=folder)
    state[key] = {named: 1.0} if key == "best_k_models" else named
    with pytest.raises(OtherConfig, match="may be removed"):
        RunConfig(CONFIG, []).on_load_checkpoint(None, None, checkpoint)
