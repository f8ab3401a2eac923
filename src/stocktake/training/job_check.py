"""What would end a job in its first seconds: composes its overrides and binds every `_target_` to its signature.

A launcher runs it before it sends: python -m stocktake.training.job_check < jobs.json. It prints, as its last line,
for each job what is wrong.
"""

import importlib.util
import inspect
import json
import os
import pkgutil
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stocktake.cli.check import plus
from stocktake.config import as_plain, build, composed

OWN_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
# What hands its **options on to something that is no parent of it.
HANDED_ON = {
    "pytorch_lightning.callbacks.ThroughputMonitor": "lightning_fabric.utilities.throughput.Throughput",
    "pytorch_lightning.loggers.WandbLogger": "wandb.init",
}
AUTO = "auto"  # becomes a value where the training starts
SIMPLE = (int, float, str, bool, type(None))


def missing_values(cfg: DictConfig) -> Iterator[str]:
    """Yields the keys that an experiment leaves to the user."""
    for key in sorted(OmegaConf.missing_keys(cfg)):
        yield f"{key} has no value in experiment={cfg.get('name', '')}. Type {key}=<value>"


def contradictions(cfg: DictConfig) -> Iterator[str]:
    """Yields the keys of a training that do not go together."""
    from stocktake.model.counter import open_lengths  # torch, which a machine that only sends jobs may lack

    best, schedule = cfg.callbacks.get("best"), cfg.model.scheduler
    if best and best.monitor != cfg.optimized_metric:
        yield (
            f"callbacks.best.monitor={best.monitor} is not optimized_metric={cfg.optimized_metric}, whose best value "
            f"best.ckpt is reported with. Type optimized_metric={best.monitor} in the place of callbacks.best.monitor"
        )
    for key in ("max_epochs", "max_steps", "limit_train_batches"):
        if cfg.trainer.get(key) == 0:
            yield f"trainer.{key}=0 trains nothing. Type trainer.{key}=1 or more"
    by_step = cfg.model.scheduler_interval == "step"
    epochs, steps, time = cfg.trainer.max_epochs, cfg.trainer.get("max_steps", -1), cfg.trainer.get("max_time")
    if epochs is None and steps == -1 and time is None:
        epochs = 1000  # Lightning's own, where nothing is said
    is_endless = epochs in (None, -1) and not (by_step and steps != -1)
    if schedule and is_endless and open_lengths(build(schedule)):
        max_steps = f"{plus('trainer.max_steps', cfg)}trainer.max_steps=<number>"
        yield (
            f"{schedule._target_.split('.')[-1]} spreads the learning rate over the whole run, and no number of "
            f"{'epochs or steps' if by_step else 'epochs'} says how long that is. Type trainer.max_epochs=<number>, "
            f"{max_steps if by_step else 'model.scheduler_interval=step'} or model.scheduler=null"
        )


def wrong_values(cfg: DictConfig) -> Iterator[str]:
    """Yields what is wrong with a job's configuration."""
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        yield f"The configuration cannot be resolved in the job: {_first_line(error)}"
        return
    # What a target does not take is named, too.
    errors = [error for error in binding_errors(plain) if "unexpected keyword argument" not in error]
    errors += type_errors(plain)
    yield from errors
    model = plain.get("model") if isinstance(plain, dict) else None
    if not isinstance(model, dict) or "_target_" not in model:  # another's train.py
        return
    if not errors:
        yield from contradictions(cfg)
    if isinstance(model.get("backbone"), str):
        yield from _backbone_problems(model["backbone"], model.get("weights"))


def _backbone_problems(backbone: str, weights: str | None) -> Iterator[str]:
    from timm.models import is_model_pretrained

    from stocktake.model.backbone import BackboneError, check_backbone

    try:
        check_backbone(backbone)
    except BackboneError as error:
        yield str(error)
        return
    if weights == "imagenet" and not is_model_pretrained(backbone):
        yield (
            f"model.weights=imagenet: timm has no weights for model.backbone={backbone}. Type model.weights=none, or "
            "model.weights=<a .safetensors or .pt file>"
        )


def binding_errors(node: Any, path: str = "") -> list[str]:
    """Returns what is wrong with the keys of every `_target_` below `node`."""
    if isinstance(node, list):
        return [error for i, item in enumerate(node) for error in binding_errors(item, f"{path}[{i}]")]
    if not isinstance(node, dict):
        return []
    errors = [error for key, child in node.items() for error in binding_errors(child, f"{path}.{key}".lstrip("."))]
    if "_target_" in node:
        try:
            target = pkgutil.resolve_name(node["_target_"])
        except (ImportError, AttributeError, ValueError) as error:
            return [*errors, f"{path}: _target_={node['_target_']} cannot be imported: {error}"]
        arguments = {key: value for key, value in node.items() if key not in OWN_KEYS}
        signature = inspect.signature(target)
        try:
            (signature.bind_partial if node.get("_partial_") else signature.bind)(**arguments)
        except TypeError as error:
            errors.append(f"{path}: {node['_target_']}: {error}")
        unknown = sorted(arguments.keys() - _names(node["_target_"]))
        errors += [f"{path}.{key}: {node['_target_']} does not take it" for key in unknown]
    return errors


def _names(path: str) -> set[str]:
    """Every name that a callable takes; where a class takes **options, they are those of the classes it is made of."""
    return {name for maker in _makers(path) for name in inspect.signature(maker).parameters}


def _makers(path: str) -> list[Any]:
    target = pkgutil.resolve_name(path)
    makers = [target]
    if inspect.isclass(target):
        makers = [vars(cls)["__init__"] for cls in target.__mro__ if "__init__" in vars(cls)]
    if path in HANDED_ON:
        makers.insert(1, pkgutil.resolve_name(HANDED_ON[path]))
    used = []
    for maker in makers:
        used.append(maker)
        parameters = inspect.signature(maker).parameters.values()
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return used


def type_errors(node: Any, path: str = "") -> Iterator[str]:
    """Yields the values below `node` that are not of the type that their `_target_` asks for."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from type_errors(item, f"{path}[{index}]")
    if not isinstance(node, dict):
        return
    hints = _hints(node["_target_"]) if "_target_" in node else {}
    for key, value in node.items():
        inside = f"{path}.{key}".lstrip(".")
        if key in hints and value not in (AUTO, "???") and not fits(value, hints[key]):
            yield f"{inside}={value!r} is a {type(value).__name__}; it must be {_named(hints[key])}"
        yield from type_errors(value, inside)


def _hints(path: str) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    try:
        for maker in reversed(_makers(path)):
            maker = maker.__init__ if inspect.isclass(maker) else maker
            hints |= typing.get_type_hints(maker)
    except (ImportError, AttributeError, NameError, TypeError, ValueError):
        return {}  # what cannot be read is not judged
    return hints


def fits(value: Any, annotation: Any) -> bool:
    """Whether a configuration's value may be given where `annotation` stands; what is not simple is not judged."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin in (Sequence, list, tuple):
        return isinstance(value, list) and (origin is tuple or all(fits(item, arguments[0]) for item in value))
    if annotation not in SIMPLE:
        is_plain = isinstance(value, SIMPLE)
        return not (is_plain and isinstance(annotation, type) and annotation.__module__.split(".")[0] == "torch")
    if isinstance(value, bool):
        return annotation is bool
    return isinstance(value, (int, float) if annotation is float else annotation)


def _named(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(map(_named, typing.get_args(annotation)))
    return getattr(annotation, "__name__", str(annotation)) if not typing.get_args(annotation) else str(annotation)


def run_problems(cfg: DictConfig, before: str) -> Iterator[str]:
    """Yields why a job would not go on with the run whose config.yaml is `before`."""
    from stocktake.callbacks.run_config import OtherConfig, RunConfig
    from stocktake.training.resume import MAY_DIFFER, raised_lengths

    began = yaml.safe_load(before)  # data: nothing in it is resolved
    if not isinstance(began, dict):
        yield "The config.yaml of the run to go on with is empty or cut off. Type run_name=<new> to start another."
        return
    now = as_plain(cfg)
    _take_over_auto(now, began)
    try:
        RunConfig(now, [*MAY_DIFFER, *raised_lengths(cfg, began)]).check(began)
    except OtherConfig as error:
        yield str(error)


def _take_over_auto(now: Any, began: Any) -> None:
    """Puts what `auto` became in the run that began in its place."""
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(began.get(key), dict):
            _take_over_auto(value, began[key])
        elif value == AUTO and key in began:
            now[key] = began[key]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def main() -> None:
    wanted, found = json.load(sys.stdin), {}
    has_torch = importlib.util.find_spec("torch") is not None
    for job in wanted["jobs"]:
        os.environ.update(job["environment"])
        problems: dict[str, list[str]] = {"missing": [], "wrong": []}
        found[job["name"]] = problems
        try:
            cfg = composed(wanted["config_folder"], wanted["config_name"], job["overrides"])
        except Exception as error:  # whatever it is, the job's own composition would end so
            problems["wrong"].append(f"The overrides cannot be composed in the job: {_first_line(error)}")
            continue
        if job.get("before") is not None:
            problems["wrong"] += run_problems(cfg, job["before"])
            continue
        problems["missing"] += missing_values(cfg)
        if has_torch:  # which a machine that only sends jobs may lack
            problems["wrong"] += wrong_values(cfg)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
