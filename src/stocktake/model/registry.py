"""Models from files: built by name out of a table, with plain values that fit their signatures.

No file chooses code.
"""

import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm

from stocktake.model.counter import BinCounter
from stocktake.model.ensemble import Ensemble
from stocktake.model.heads import CornHead, SoftLabelHead, SoftmaxHead

Classes = Mapping[str, Callable[..., Any]]

# The names are what checkpoints hold: they stay when a class moves, else the old ones could no longer be read.
ENSEMBLE = "stocktake.model.ensemble.Ensemble"
COUNTERS: Classes = {"stocktake.model.counter.BinCounter": BinCounter}
HEADS: Classes = {
    "stocktake.model.heads.SoftmaxHead": SoftmaxHead,
    "stocktake.model.heads.SoftLabelHead": SoftLabelHead,
    "stocktake.model.heads.CornHead": CornHead,
}
NEVER_BUILT = ("optimizer", "scheduler")  # a training's own, which nobody asks a finished model for
# Checked and left out: the weights come from the checkpoint, and to compile takes longer than to look at a few
# thousand images.
ONLY_FOR_TRAINING = ("weights", "scheduler_interval", "layer_decay", "torch_compile")


class DescriptionError(ValueError):
    """A description, read from a file, that names something else than this project's models, or holds odd values."""


def model_from(description: Any, own: Classes | None = None, name: str = "model") -> BinCounter | Ensemble:
    """Builds the model that a file describes, with the weights of its random start.

    Args:
        description: What the file holds: `_target_`, which is only looked up, and the arguments beside it.
        own: Models and heads besides this project's, by the names that files have for them.
        name: Of the description in the file, for messages.

    Raises:
        DescriptionError: It names what is not in the tables, or a key or value that the signature does not take.
    """
    if not isinstance(description, Mapping) or description.get("_target_") != ENSEMBLE:
        return _counter_from(description, own or {}, name)
    members = check_arguments(_arguments(description), Ensemble, name).get("members")
    if not members:
        raise DescriptionError(f"{name}.members names no model.")
    return Ensemble([_counter_from(member, own or {}, f"{name}.members[{i}]") for i, member in enumerate(members)])


def _counter_from(description: Any, own: Classes, name: str) -> BinCounter:
    counter_class = _class_of(description, {**COUNTERS, **own}, name)
    values = check_arguments(_arguments(description, NEVER_BUILT), counter_class, name)
    backbone, head = values.get("backbone"), values.pop("head", None)
    # timm would take hf-hub:... and local-dir:... for a name, too, and read a configuration from there.
    if backbone is None or not timm.is_model(backbone) or set(backbone) & set(":/"):
        raise DescriptionError(f"{name}.backbone={_shown(backbone)} is no model of timm's.")
    head_class = _class_of(head, {**HEADS, **own}, f"{name}.head")
    head_values = check_arguments(_arguments(head), head_class, f"{name}.head")
    values = _arguments(values, ONLY_FOR_TRAINING)
    try:
        return counter_class(**values, head=head_class(**head_values), weights="none")
    except TypeError as error:  # an argument without a default is missing
        raise DescriptionError(f"{name}: {error}.") from None


def _class_of(description: Any, known: Classes, name: str) -> Callable[..., Any]:
    target = description.get("_target_") if isinstance(description, Mapping) else None
    if not isinstance(target, str) or target not in known:
        raise DescriptionError(
            f"{name}._target_={_shown(target)} is none of {', '.join(known)}. A file chooses no code. For a class of "
            "your own, write it into src/stocktake/model and its name into registry.py there."
        )
    return known[target]


def _arguments(description: Mapping[str, Any], left_out: Sequence[str] = ()) -> dict[str, Any]:
    return {key: value for key, value in description.items() if key not in ("_target_", *left_out)}


def check_plain(value: Any, name: str = "") -> None:
    """
    Args:
        name: Dotted, of the value in its file.

    Raises:
        DescriptionError: It is something else than dicts and lists of text, numbers, booleans and null, or has text
            that OmegaConf would resolve.
    """
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            check_plain(child, f"{name}.{key}".lstrip("."))
    elif not (value is None or type(value) in (str, int, float, bool)):
        raise DescriptionError(f"{name} is a {type(value).__name__}, no plain value.")
    elif isinstance(value, str) and "${" in value:
        raise DescriptionError(f"{name}={_shown(value)} is to be resolved, which is not done with what is in a file.")


def check_arguments(values: Mapping[str, Any], taker: Callable[..., Any], name: str) -> dict[str, Any]:
    """Returns the values, if they are plain and of the types that the taker's signature says.

    What is annotated with a class of the project's own is not looked into: that is its builder's task.

    Args:
        name: What the values are part of, for messages.

    Raises:
        DescriptionError: A key is unknown, or a value of another type, an interpolation or an object to be built.
    """
    hints = typing.get_type_hints(taker.__init__ if isinstance(taker, type) else taker)
    hints.pop("return", None)
    for key, value in values.items():
        if key not in hints:
            raise DescriptionError(f"{name} has the unknown key {key!r}; there are {', '.join(hints) or 'none'}.")
        if not _fits(value, hints[key]):
            raise DescriptionError(f"{name}.{key}={_shown(value)} is not of the kind that is wanted there.")
    return dict(values)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Sequence:
        return isinstance(value, list) and all(_fits(each, arguments[0]) for each in value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is str:
        return type(value) is str and "${" not in value
    if hint in (int, bool, types.NoneType):
        return type(value) is hint
    return isinstance(value, dict)  # a head's description


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]}..."
