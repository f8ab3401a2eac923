"""scripts/rehearse.py: a shortened training with faults, and the same without, through `hydra/launcher=rehearsal`."""

import json
import sys
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy

from stocktake.cli.overrides import check_command_line
from stocktake.rehearsal.summary import SUMMARY_NAME, JobSummary
from stocktake.rehearsal.termination import run_child, unwinding

REPOSITORY = Path(__file__).resolve().parents[3]  # whichever folder the rehearsal is typed in
LAUNCHER = "hydra/launcher=rehearsal"
Differences = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Settings:
    """The keys of conf/rehearse.yaml.

    Attributes:
        scenario: `train`, or `deploy`: from a training to an endpoint.
        hosts: Instances.
        faults: The value of `hydra.launcher.faults`, in Hydra's grammar.
        clean: Whether the instances run in an environment like the image's.
        compare: Whether to run it without faults, too.
        full: The whole training; else `epochs` of `steps_per_epoch`.
        checkpoint_every: Steps.
    """

    scenario: str
    hosts: int
    faults: str
    clean: bool
    compare: bool
    full: bool
    epochs: int
    steps_per_epoch: int
    checkpoint_every: int
    folder: str

    @classmethod
    def of(cls, cfg: Mapping[Any, Any], typed: Sequence[str]) -> Self:
        """Returns the settings of a configuration; faults as they were `typed`, since train.py has the same grammar."""
        typed_faults = [override.partition("=")[2] for override in typed if override.startswith("faults=")]
        values: dict[str, Any] = {key: cfg[key] for key in OWN_KEYS}
        values["faults"] = typed_faults[-1] if typed_faults else f"[{','.join(cfg['faults'])}]"
        return cls(**values)

    def overrides(self) -> list[str]:
        """Returns what train.py is given where the user typed nothing else."""
        defaults = ["compute=spot", "callbacks=spot", "resume=true", f"compute.num_instances={self.hosts}"]
        if not self.full:
            defaults += [
                f"trainer.max_epochs={self.epochs}",
                f"+trainer.limit_train_batches={self.steps_per_epoch}",
                "+trainer.limit_val_batches=2",
                "data.num_workers=0",
                "logger=csv",
                f"callbacks.spot.every_n_train_steps={self.checkpoint_every}",
            ]
        return defaults


OWN_KEYS = tuple(field.name for field in fields(Settings))


@dataclass(frozen=True)
class Rehearsed:
    """A job that was played.

    Attributes:
        folder: Holds its instances, logs, and what stands in for S3.
    """

    folder: Path
    summary: JobSummary

    def stored(self, url: str) -> Path:
        return self.folder / "s3" / url.removeprefix("s3://")

    def last_checkpoint(self) -> Path:
        url = self.summary["checkpoint_url"]
        return max(self.stored(url).rglob("step-*.ckpt")) if url else self.folder / "no checkpoints were kept"


def split_overrides(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns what is the rehearsal's own (its keys, and Hydra's flags), and what is train.py's."""
    own = [override for override in typed if override.partition("=")[0] in OWN_KEYS or override.startswith("-")]
    return own, [override for override in typed if override not in own]


def with_defaults(overrides: Sequence[str], defaults: Sequence[str]) -> list[str]:
    """Returns `overrides` and those of `defaults` whose key is not among them."""
    typed = {_key(override) for override in overrides}
    return [*overrides, *(default for default in defaults if _key(default) not in typed)]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def rehearse(train_overrides: Sequence[str], settings: Settings, differences: Differences) -> int:
    """Rehearses `train.py <train_overrides>`, says how it went and returns the exit code.

    Args:
        differences: Names what differs between two checkpoints.

    Raises:
        OverrideError: train.py takes no such overrides.
    """
    began = time.monotonic()
    root = Path(settings.folder, time.strftime("%m%d-%H%M%S")).absolute()
    overrides = [*with_defaults(train_overrides, settings.overrides()), f"hydra.launcher.clean={settings.clean}"]
    check_command_line(REPOSITORY / "conf", "train", [*overrides, LAUNCHER])
    if not settings.full:
        num_steps = settings.epochs * settings.steps_per_epoch
        print(
            f"A shortened training: at most {num_steps} steps in {settings.epochs} epochs, saved every "
            f"{settings.checkpoint_every}. full=true rehearses the whole one."
        )
    with unwinding():
        faulty = _run(overrides, root, "with-faults", settings.faults)
        outcome: dict[str, Any] = {
            key: faulty.summary[key] for key in ("status", "attempts", "world_size", "steps_lost", "billed_s")
        }
        outcome["model_answers"] = exported_model_predicts(faulty)
        well = faulty.summary["status"] == "Completed" and not faulty.summary["unplayed_faults"]
        well = well and outcome["model_answers"]
        if settings.compare:
            print("The same without faults:")
            whole = _run(overrides, root, "without-faults", "[]")
            differing = ["no run that ended to compare with"]
            if faulty.summary["status"] == whole.summary["status"] == "Completed":
                differing = differences(faulty.last_checkpoint(), whole.last_checkpoint())
            outcome["weights_equal"] = not differing
            well = well and not differing
            print(
                "The final checkpoints are equal, bit for bit."
                if not differing
                else f"The final checkpoints differ: {', '.join(differing[:5])}"
            )
    print(f"The rehearsal took {time.monotonic() - began:.0f} s; all of it is in {root}")
    print(json.dumps(outcome))
    return 0 if well else 1


def _run(overrides: Sequence[str], root: Path, name: str, faults: str) -> Rehearsed:
    """Runs train.py with the rehearsal's launcher and returns its one job.

    Raises:
        SystemExit: It ended before a job was played; it has printed why.
    """
    launcher = [
        LAUNCHER,
        f"hydra.launcher.folder={root}",
        f"hydra.launcher.job_name={name}",
        f"hydra.launcher.faults={faults}",
        f"hydra.sweep.dir={root}/results",
    ]
    returncode = run_child([sys.executable, str(REPOSITORY / "train.py"), "-m", *overrides, *launcher])
    path = root / name / SUMMARY_NAME
    if not path.exists():
        sys.exit(returncode or 1)
    (summary,) = json.loads(path.read_text())
    return Rehearsed(path.parent, summary)


def exported_model_predicts(job: Rehearsed) -> bool:
    """Whether the job's model.tar.gz holds an exported model that the server can count with; says which, or why not."""
    from stocktake.serving.predictor import Predictor

    packed, folder = job.stored(job.summary["model_url"]), job.folder / "model"
    try:
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        predictor = Predictor.open(str(folder), num_threads=1)
        predictor.probabilities(numpy.full((64, 64, 3), 128, numpy.uint8))
    except (OSError, ValueError, tarfile.TarError) as error:
        print(f"No exported model that could be served came out of the job: {error}")
        return False
    print(f"The exported model {predictor.version} answers. To ask it: python scripts/serve.py model={folder}")
    return True
