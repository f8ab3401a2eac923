"""The run's whole configuration inside each checkpoint, and no checkpoint resumed under another one."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

CONFIG_KEY = "stocktake_config"  # where it lies in a checkpoint
# Keys that came later, with what runs from before did.
ADDED = {"trainer.sync_batchnorm": False, "model.decay_norms": True}
# What has another name since: keys, and the classes that a `_target_` names.
RENAMED_KEYS = {
    "callbacks.head_first": "callbacks.freeze_backbone",
    "callbacks.step_lines": "callbacks.step_logger",
    "data.augment.colour": "data.augment.color",
}
RENAMED_TARGETS = {
    "stocktake.callbacks.head_first.HeadFirst": "stocktake.callbacks.freeze_backbone.FreezeBackbone",
    "stocktake.callbacks.step_lines.StepLines": "stocktake.callbacks.step_logger.StepLogger",
    "stocktake.callbacks.unhurried.UnhurriedProgressBar": "stocktake.callbacks.progress.NonBlockingProgressBar",
    "stocktake.callbacks.unhurried.UnhurriedThroughputMonitor": (
        "stocktake.callbacks.progress.NonBlockingThroughputMonitor"
    ),
    "stocktake.data.stream.num_images": "stocktake.data.loading.dataset.num_images",
}


class OtherConfig(ValueError):
    """A run folder holds a checkpoint that was made by other overrides."""


class RunConfig(Callback):
    """Keeps the configuration as plain values, so that a checkpoint rebuilds its model alone."""

    def __init__(self, config: dict[str, Any], may_differ: list[str]):
        """
        Args:
            config: The resolved configuration.
            may_differ: Top-level keys, or dotted ones below them, that don't change what is learnt.
        """
        self.config, self.may_differ = config, tuple(may_differ)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[CONFIG_KEY] = self.config

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        config = checkpoint.get(CONFIG_KEY)
        if not isinstance(config, dict):
            raise OtherConfig("This run folder holds a checkpoint that train.py did not write: move it away.")
        self.check(config)
        for name, state in checkpoint.get("callbacks", {}).items():
            _check_paths(name, state)

    def check(self, before: dict[str, Any]) -> None:
        """Refuses to go on with a run that another configuration began.

        Raises:
            OtherConfig: It differs in what is learnt; the message names the keys.
        """
        before, now = ADDED | self._what_is_learnt(before), ADDED | self.what_is_learnt()
        differing = [
            f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if differing:
            raise OtherConfig(
                "This run folder holds a run of another configuration: " + "; ".join(differing) + ". "
                "Type the old overrides to go on with it, or run_name=<new> to start another run beside it."
            )

    def what_is_learnt(self) -> dict[str, Any]:
        """Returns the values that decide what is learnt, under their dotted keys."""
        return self._what_is_learnt(self.config)

    def _what_is_learnt(self, config: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value
            for key, value in _renamed(_flat(config)).items()
            if not any(f"{key}.".startswith(f"{may_differ}.") for may_differ in self.may_differ)
        }


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Returns every leaf under its dotted key; a list is a leaf."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        name: value
        for key, child in node.items()
        for name, value in _flat(child, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of a run of before under today's keys, with its classes by today's names."""
    renamed = {}
    for key, value in values.items():
        for was, now in RENAMED_KEYS.items():
            if f"{key}.".startswith(f"{was}."):
                key = now + key.removeprefix(was)
        is_target = key.endswith("_target_") and isinstance(value, str)
        renamed[key] = RENAMED_TARGETS.get(value, value) if is_target else value
    return renamed


def _check_paths(name: str, state: Any) -> None:
    """Refuses a callback's state whose checkpoints are not in their folder: Lightning removes those that are too old.

    Raises:
        OtherConfig: The state names another file.
    """
    if not isinstance(state, dict) or not isinstance(folder := state.get("dirpath"), str):
        return
    named = [state.get(key) for key in ("best_model_path", "kth_best_model_path", "last_model_path")]
    for path in (*filter(None, named), *(state.get("best_k_models") or ())):
        if not str(path).startswith(f"{folder.rstrip('/')}/") or ".." in str(path).split("/"):
            raise OtherConfig(
                f"The checkpoint in this run folder names {path!r}, which is not in {folder}, as one of its own "
                f"(callbacks.{name[:80]}). It is refused: what it names may be removed. train.py writes no such file."
            )
