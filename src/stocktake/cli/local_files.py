"""Files and folders on this machine that a command is to read: what is missing is reported before torch is imported.

What lies in a bucket, and what a file holds, is for the code that reads it to say.
"""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stocktake.run_folder import BEST_KEY, BEST_NAME, METRICS_NAME
from stocktake.shell import command, override
from stocktake.storage import local_path

CHECKPOINT_NAMES = (BEST_KEY, BEST_NAME)  # in a run's folder
DRAWN_NAME = "synthetic-"  # how the folders begin that bins are drawn into unasked
TYPE_CHECKPOINT = f"Type the path of a run's {BEST_KEY}, or of its folder"


def missing_files(config: DictConfig, swept: Mapping[str, list[Any]] | None = None) -> Iterator[str]:
    """Yields a sentence for each local file or folder of a command that is not there, with what to type instead.

    Args:
        swept: The values of each key that a sweep goes through.
    """
    for key, check in CHECKS.items():
        values = (swept or {}).get(key) or [_value(config, key)]
        for value in values:
            for location in value if isinstance(value, list) else [value]:
                if isinstance(location, str) and ("://" not in location or location.startswith("file://")):
                    try:
                        yield from check(key, location, config)
                    except (OSError, RuntimeError, ValueError) as error:  # no such user's ~, no right to look, a NUL
                        yield f"{override(key, location)} cannot be looked for ({error}). Type another path"


def there_instead(location: str) -> str:
    """Returns what is to be found where a local path ends, as a part of a sentence."""
    path = local_path(location)
    nearest = next(parent for parent in path.parents if parent.is_dir())
    wanted = path.relative_to(nearest).parts[0]
    if (nearest / wanted).is_symlink():
        return f": {nearest / wanted} is a link to {os.readlink(nearest / wanted)}, which leads nowhere"
    if (nearest / wanted).exists():
        return f": {nearest / wanted} is no folder"
    children = [child for child in nearest.iterdir() if wanted.startswith(".") or not child.name.startswith(".")]
    names = sorted(child.name + "/" * child.is_dir() for child in children)
    near = difflib.get_close_matches(wanted, names, 5, 0.3) or names[:5]
    more = " and others" if len(names) > len(near) else ""
    return f": in {nearest} there is {', '.join(near) + more if near else 'nothing'}"


def _value(config: DictConfig, key: str) -> Any:
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException:  # known only when the run has its folder
        return None
    return OmegaConf.to_container(value) if OmegaConf.is_list(value) else value


def _checkpoint(key: str, location: str, config: DictConfig) -> Iterator[str]:
    path = local_path(location)
    if path.is_dir() and not any((path / name).is_file() for name in CHECKPOINT_NAMES):
        yield f"{override(key, location)} holds no {CHECKPOINT_NAMES[0]}. {TYPE_CHECKPOINT}"
    elif not path.exists():
        yield f"{override(key, location)} does not exist{there_instead(location)}. {TYPE_CHECKPOINT}"


def _dataset(key: str, location: str, config: DictConfig) -> Iterator[str]:
    path, data = local_path(location), config.get("data", {})
    can_draw = data.get("num_bins") is not None
    is_drawn = can_draw and (data.get("draw") or (data.get("draw") is None and path.name.startswith(DRAWN_NAME)))
    if is_drawn or (path / "manifest.parquet").is_file() or _is_finished(config):
        return
    what = there_instead(location) if not path.exists() else f": {path} holds no manifest.parquet"
    if can_draw:
        other = f"; to draw {data.num_bins:,} bins into it, add data.draw=true"
    else:
        other = f", or make it: {command('scripts/prepare.py', {'source': 's3://aft-vbi-pds', 'root': location})}"
    yield f"There is no dataset in {override(key, location)}{what}. Type the folder that scripts/prepare.py made{other}"


def _other_dataset(key: str, location: str, config: DictConfig) -> Iterator[str]:
    if "source" not in config:  # prepare makes its root
        yield from _dataset(key, location, config)


def _is_finished(config: DictConfig) -> bool:
    """Whether a run that would be gone on with is finished: then its bins are not read again."""
    folder = _value(config, "hydra.run.dir") if config.get("resume") else None
    return isinstance(folder, str) and Path(folder, METRICS_NAME).is_file()


def _weights(key: str, location: str, config: DictConfig) -> Iterator[str]:
    if location not in ("imagenet", "none") and not local_path(location).exists():
        missing = f"{override(key, location)} does not exist{there_instead(location)}"
        yield f"{missing}. Type imagenet, none, or the path of a file"


def _file(key: str, location: str, config: DictConfig) -> Iterator[str]:
    if not local_path(location).exists():
        yield f"{override(key, location)} does not exist{there_instead(location)}. Type the path of a file"


def _exported(key: str, location: str, config: DictConfig) -> Iterator[str]:
    path = local_path(location)
    if not (path / "model.json").is_file():
        missing = " is no folder" if path.exists() else f" does not exist{there_instead(location)}"
        what = " holds no model.json" if path.is_dir() else missing
        yield f"{override(key, location)}{what}. Type the folder that scripts/export.py wrote"


# By the key, which means the same in every command that has it.
CHECKS: dict[str, Callable[[str, str, DictConfig], Iterator[str]]] = {
    "checkpoint": _checkpoint,
    "checkpoints": _checkpoint,
    "data.root": _dataset,
    "root": _other_dataset,
    "model.weights": _weights,
    "exported": _exported,
    "baseline": _exported,
    "metrics": _file,
    "calibration": _file,
    "feedback": _file,
}
