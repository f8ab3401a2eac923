"""What is resolved, refused and printed before the first step of a training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ProgressBar

from stocktake.hardware import (
    describe,
    require_accelerator,
    require_usable_gpus,
    suitable_channels_last,
    suitable_precision,
)
from stocktake.metrics.definitions import metric_of
from stocktake.model.backbone import Backbone
from stocktake.model.counter import BinCounter
from stocktake.training.job_check import contradictions


def resolve_auto(cfg: DictConfig, before: Mapping[str, Any] | None = None) -> None:
    """Replaces each `auto` by what suits this machine, so that the kept configuration says what was done.

    Args:
        before: The configuration of the run that goes on, which keeps what `auto` was on the machine that began it.

    Raises:
        ValueError: The experiment leaves a value to the user who did not give it, or two values contradict each other.
    """
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise ValueError(f"{', '.join(missing)} has no value in experiment={cfg.name}: type {missing[0]}=<value>.")
    if cfg.trainer.get("overfit_batches"):  # Lightning would put its own sampler in the place of the resumable one
        raise ValueError(
            f"trainer.overfit_batches={cfg.trainer.overfit_batches} is not supported. To see whether a model learns a "
            f"few images by heart, type data.limit={cfg.data.batch_size} data.augment=null"
        )
    for problem in contradictions(cfg):
        raise ValueError(f"{problem}.")
    require_accelerator("trainer.accelerator", cfg.trainer.accelerator)
    require_usable_gpus(cfg.trainer.accelerator)
    with open_dict(cfg):
        cfg.trainer.precision = _resolved(cfg, "trainer.precision", suitable_precision, before)
        cfg.model.channels_last = _resolved(cfg, "model.channels_last", suitable_channels_last, before)
        for callback in filter(None, cfg.callbacks.values()):
            if callback.get("mode") == "auto":
                callback.mode = metric_of(callback.monitor).mode


def _resolved(cfg: DictConfig, key: str, suitable: Callable[[Any], Any], before: Mapping[str, Any] | None) -> Any:
    """Returns a key's value, for `auto` the one that the run was begun with or else what suits this machine."""
    here = suitable(requested := OmegaConf.select(cfg, key))
    section, name = key.split(".")
    was = (before or {}).get(section, {}).get(name, here)
    if requested != "auto" or was == here:
        return here
    rank_zero_info(f"{key}=auto would be {here} on this machine; the run was begun with {was} and goes on with it.")
    return was


def begins(cfg: DictConfig, module: BinCounter) -> str:
    """Returns the line before the first step, in the place of Lightning's table of layers."""
    millions = sum(weight.numel() for weight in module.parameters()) / 1e6
    sizes = cfg.data.train_sizes_px or [cfg.data.image_size_px]
    return (
        f"{cfg.model.backbone} with {millions:.1f} million weights, images of {sizes[0]} px, "
        f"{cfg.trainer.precision} on {describe()}. The first step takes longest."
    )


def what_is_shown(trainer: DictConfig, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Returns Lightning's own displays, but for those that were typed: no bar but ours, and no table of layers."""
    shown = {
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_model_summary": False,
    }
    return {key: value for key, value in shown.items() if key not in trainer}


def require_size(backbone: Backbone, name: str, size_px: int, train_sizes_px: Sequence[int] | None) -> None:
    """Refuses a size of image that the backbone is not made for.

    Raises:
        ValueError: It takes images of one size only, which is another.
    """
    about = backbone.pretrained_cfg
    own = about["input_size"][-1]
    wrong = [size for size in {size_px, *(train_sizes_px or [])} if size != own]
    if about.get("fixed_input_size") and wrong:
        raise ValueError(
            f"model.backbone={name} takes images of {own} px only, not of {wrong[0]}. "
            f"Type data.image_size_px={own} data.train_sizes_px=null, or another backbone."
        )
