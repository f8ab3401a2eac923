"""The journal of a search: a file of JSON lines that the search and its trials write, and optuna-dashboard opens.

A trial writes from within its own process, so this lies below trainings and searches alike. It imports Optuna: who may
meet no search imports it late.
"""

import os
import sys
import warnings
from pathlib import Path

import optuna
from optuna import Study, load_study
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from optuna.trial import Trial

JOURNAL_NAME = "journal.log"  # in the search's folder
STUDY_NAME = "search"
PRUNED = "pruned_at"  # a trial's attribute: the validation after which it stopped itself
PRUNERS = ("none", "median", "hyperband")

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def journal_storage(path: Path) -> BaseStorage:
    """Opens a journal, and makes one that is not there."""
    return JournalStorage(JournalFileBackend(str(path)))


def mend(path: Path) -> None:
    """Cuts off a last line that a kill left half written: the next one would be joined to it, and both be lost."""
    if not path.is_file():
        return
    with get_lock_file(JournalFileSymlinkLock(str(path))), path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())
            print(f"{path}: the last line was cut off by a kill; it is left out.", file=sys.stderr)


def pruner_of(name: str) -> BasePruner:
    """Returns what decides which trials are stopped early; each is given two validations at least."""
    if name == "none":
        return NopPruner()
    if name == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    if name == "hyperband":
        return HyperbandPruner(min_resource=2, reduction_factor=3)
    raise ValueError(f"pruner={name!r} is none of {', '.join(PRUNERS)}: type hydra.sweeper.pruner=median")


def open_study(path: Path, pruner: str) -> Study:
    """Returns the search as one of its trials sees it."""
    return load_study(
        study_name=STUDY_NAME, storage=journal_storage(path), sampler=RandomSampler(), pruner=pruner_of(pruner)
    )


def report(study: Study, number: int, validation: int, value: float) -> None:
    """Writes what a trial got in a validation; one that a run repeats which is gone on with is not written again.

    Args:
        validation: From 1 on.
    """
    trial = _trial(study, number)
    if validation not in study.trials[number].intermediate_values:
        trial.report(value, validation)


def is_pruned(study: Study, number: int, validation: int) -> bool:
    """Whether a trial is to stop after the validation that it reported last; the journal says so then."""
    trial = _trial(study, number)
    if not trial.should_prune():
        return False
    trial.set_user_attr(PRUNED, validation)
    return True


def _trial(study: Study, number: int) -> Trial:
    return Trial(study, study.trials[number]._trial_id)
