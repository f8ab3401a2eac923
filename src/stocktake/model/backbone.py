"""A timm backbone by name, with weights from timm's hub, from a file of one's own, or with none; its normalization."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any, cast

import timm
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from stocktake.model.torch_files import DamagedFile, check_finite, load_plain, named_tensors
from stocktake.storage import Folder, split_url


class BackboneError(ValueError):
    """A backbone that timm does not know."""


class WeightsError(ValueError):
    """Weights that cannot be had, or that do not fit the backbone."""


class Backbone(nn.Module):
    """What a model of timm's has beside what any module has; timm's own annotations say no more than `nn.Module`."""

    pretrained_cfg: dict[str, Any]
    get_classifier: Callable[[], nn.Module]


def create_backbone(name: str, num_logits: int, weights: str | None = "imagenet", drop_rate: float = 0.0) -> Backbone:
    """Returns a timm model that ends in `num_logits` outputs.

    Args:
        weights: `imagenet` (timm's hub), the path or s3:// URL of a `.safetensors` or `.pt` file, or `none`.
        drop_rate: Dropout before the last layer.

    Raises:
        BackboneError: timm has no model of that name.
        WeightsError: The hub does not answer, or the file is missing or of another model.
    """
    check_backbone(name)
    options: dict[str, Any] = {"num_classes": num_logits, "drop_rate": drop_rate}
    if name.startswith("vit_"):
        options["dynamic_img_size"] = True  # else it takes images of one size only (DINOv2: 518 px)
    if weights is None or weights == "none":
        return cast(Backbone, timm.create_model(name, pretrained=False, **options))
    if weights != "imagenet":
        backbone = cast(Backbone, timm.create_model(name, pretrained=False, **options))
        _load(backbone, read_state_dict(weights), weights)
        return backbone
    try:
        backbone = cast(Backbone, timm.create_model(name, pretrained=True, **options))
        _start_near_zero(backbone)
        return backbone
    except (OSError, RuntimeError) as error:  # no network, no such file on the hub, a broken download
        raise WeightsError(
            f"The ImageNet weights of {name} did not come from timm's hub ({type(error).__name__}). Check the network, "
            "or type model.weights=<a .safetensors or .pt file>, or model.weights=none to start from scratch."
        ) from error


def normalization(
    backbone: Backbone, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the mean and the deviation by which uint8 pixels are normalized, `mean_C11` and `std_C11`, on 0..255.

    Args:
        mean: Of the three channels, on 0..1; `None` takes what the backbone's weights were trained with.
        std: Likewise.
    """
    trained_with = backbone.pretrained_cfg
    mean_C11 = torch.tensor(mean or trained_with["mean"]).view(-1, 1, 1) * 255
    std_C11 = torch.tensor(std or trained_with["std"]).view(-1, 1, 1) * 255
    return mean_C11, std_C11


def check_backbone(name: str) -> None:
    """Refuses a name that timm does not know.

    Raises:
        BackboneError: With names near it.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=4) or [
            "resnet50",
            "resnet18",
            "mobilenetv2_100",
        ]
        raise BackboneError(f"model.backbone={name!r} is no model of timm's; near it are {', '.join(near)}.")


def read_state_dict(url: str) -> dict[str, Tensor]:
    """Reads a `.safetensors` or `.pt` file, which may hold tensors and plain values but no code.

    Raises:
        WeightsError: There is no such file, or it is neither.
    """
    folder, name = split_url(url)
    try:
        content = Folder(folder).read(name)
    except FileNotFoundError as error:
        raise WeightsError(f"model.weights={url}: {error} Type imagenet, none, or the path of a file.") from None
    try:
        if name.endswith(".safetensors"):
            return load_safetensors(content)
        loaded = load_plain(content)
        state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
        # Others' files hold more beside their weights, such as an epoch.
        if isinstance(state, dict):
            state = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
        return named_tensors(state)
    except Exception as error:  # each format has errors of its own for a file that is not of it
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"model.weights={url} is not a file of weights: {reason}") from None


def _load(backbone: Backbone, state: dict[str, Tensor], url: str) -> None:
    """Loads what fits; only the last layer, which belongs to the task, may be left out."""
    own = backbone.state_dict()
    names = backbone.pretrained_cfg["classifier"]
    classifier = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    missing = [key for key in own if key not in fitting and not key.startswith(classifier)]
    if missing:
        raise WeightsError(
            f"{url} does not fit the backbone: {len(missing)} of its {len(own)} tensors are missing or of another "
            f"shape, first {missing[0]!r}. Is it the file of another model? See model.backbone."
        )
    backbone.load_state_dict(fitting, strict=False)
    try:
        check_finite(backbone)
    except DamagedFile as error:
        raise WeightsError(f"model.weights={url} is refused: {error}") from None
    if len(fitting) < len(own):
        _start_near_zero(backbone)


def _start_near_zero(backbone: Backbone) -> None:
    """Makes a new last layer on a trained backbone say that every count is about equally likely.

    timm's own start of EfficientNet's relatives grows as the classes get fewer: with 5, logits begin at +-6, and the
    first epochs undo that at the cost of the backbone.
    """
    for layer in backbone.get_classifier().modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
