"""What is said and refused before the first step of a training."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ProgressBar
from torch import nn

from stocktake.hardware import describe
from stocktake.model.counter import BinCounter


def begins(cfg: DictConfig, module: BinCounter) -> str:
    """Returns the line before the first step, in the place of Lightning's table of layers."""
    millions = sum(weight.numel() for weight in module.parameters()) / 1e6
    sizes = cfg.data.train_sizes_px or [cfg.data.image_size_px]
    return (
        f"{cfg.model.backbone} with {millions:.1f} million weights, pictures of {sizes[0]} px, "
        f"{cfg.trainer.precision} on {describe()}. The first step takes longest."
    )


def what_is_shown(trainer: DictConfig, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Returns Lightning's own displays, but for those that were typed: no bar but ours, and no table of layers."""
    shown = {
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_model_summary": False,
    }
    return {key: value for key, value in shown.items() if key not in trainer}


def require_size(backbone: nn.Module, name: str, size_px: int, train_sizes_px: Sequence[int] | None) -> None:
    """Refuses a size of picture that the backbone is not made for.

    Raises:
        ValueError: It takes pictures of one size only, which is another.
    """
    about = backbone.pretrained_cfg
    own = about["input_size"][-1]
    wrong = [size for size in {size_px, *(train_sizes_px or [])} if size != own]
    if about.get("fixed_input_size") and wrong:
        raise ValueError(
            f"model.backbone={name} takes pictures of {own} px only, not of {wrong[0]}. "
            f"Type data.image_size_px={own} data.train_sizes_px=null, or another backbone."
        )
