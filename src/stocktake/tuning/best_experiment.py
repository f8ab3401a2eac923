"""The best trial of a search as an experiment of its own: a short diff over the one that was searched."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from stocktake.cloud.secrets import looks_secret, masked_override
from stocktake.cloud.source_archive import WRITTEN_BY_SEARCH
from stocktake.console import printable
from stocktake.tuning.trials import SearchResult, Trial

ENTRY = "train.yaml"  # names the experiment that a bare `python train.py` runs


class _Indented(yaml.SafeDumper):
    """Lists one step further in than their key, as in the files beside it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


@dataclass(frozen=True)
class BestExperiment:
    """
    Attributes:
        name: What is typed, `experiment=<name>`.
        content: Of its file.
        left_out: Overrides of the search that no file of the repository may or can hold: what takes a key away, and
            secrets, covered.
    """

    name: str
    content: str
    left_out: Sequence[str]

    @property
    def origin(self) -> str:
        """The line that says of which search the file is."""
        return self.content.splitlines()[1]

    def may_replace(self, file: Path) -> bool:
        """Whether a file is not there, or of the same search."""
        return not file.exists() or self.origin in file.read_text(encoding="utf-8", errors="replace").splitlines()


def best_experiment(result: SearchResult, best: Trial, folder: Path, config_folder: Path, date: str) -> BestExperiment:
    """Returns the experiment that trains as the best trial was trained.

    Args:
        folder: The search's, by which its file is known again.
        config_folder: Its sub-folders are the groups whose choices may be overridden.
        date: Of today.
    """
    typed = [*result.fixed, *result.space.overrides(best.values)]
    defaults, tree, left_out = _diff(OverridesParser.create().parse_overrides(typed), config_folder)
    based_on = defaults.pop("experiment", _usual_experiment(config_folder))
    bases = [based_on] if isinstance(based_on, str) else based_on or []
    parts = [part for base in (*bases, result.name, "best") for part in re.findall(r"[\w-]+", base)]
    name = "_".join(parts)
    added = [{key: choice} for key, choice in defaults.items() if not key.startswith("override ")]
    replaced = [{key: choice} for key, choice in defaults.items() if key.startswith("override ")]
    OmegaConf.update(tree, "name", name)
    entries = [*bases, *added, *replaced, "_self_"]
    comments = [
        "@package _global_",
        f"{WRITTEN_BY_SEARCH} {_shown(folder)}, which writes it anew; another search does not.",
        f"{result.metric} {best.score:.5g} in trial {best.number}, the best of {len(result.ranked)} validations and so "
        f"optimistic; {result.engine}, {date}.",
        *(f"To be typed besides: {override}" for override in left_out),
    ]
    head = "".join(f"# {printable(comment)}\n" for comment in comments)
    listed = yaml.dump({"defaults": entries}, Dumper=_Indented, sort_keys=False)
    return BestExperiment(name, f"{head}{listed}\n{OmegaConf.to_yaml(tree)}", left_out)


def _diff(overrides: Iterable[Override], config_folder: Path) -> tuple[dict[str, Any], DictConfig, list[str]]:
    """Returns the entries of a defaults list, the values below them, and what cannot stand in either."""
    defaults: dict[str, Any] = {}
    tree, left_out = OmegaConf.create({"name": ""}), []
    for override in overrides:
        key, typed = override.key_or_group, override.input_line or ""
        value = None if override.is_delete() or override.is_sweep_override() else override.value()
        is_group = (config_folder / key).is_dir() and not isinstance(value, dict)
        if key == "name":
            continue
        if override.is_sweep_override() or looks_secret(key, str(value)) or (override.is_delete() and not is_group):
            left_out.append(masked_override(typed))
        elif key == "experiment":
            defaults[key] = value
        elif is_group:
            package = f"@{override.package}" if override.package else ""
            defaults[f"{'' if override.is_add() else 'override '}/{key}{package}"] = value
        else:
            OmegaConf.update(tree, key, value, force_add=True)
    return defaults, tree, left_out


def _usual_experiment(config_folder: Path) -> str | None:
    """Returns the experiment of a search for which none was typed."""
    entries = yaml.safe_load((config_folder / ENTRY).read_text(encoding="utf-8"))["defaults"]
    return next((entry["experiment"] for entry in entries if isinstance(entry, dict) and "experiment" in entry), None)


def _shown(folder: Path) -> str:
    absolute, here = folder.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
