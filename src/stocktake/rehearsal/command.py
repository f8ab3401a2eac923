"""scripts/rehearse.py: a shortened training with faults, and the same without, through `hydra/launcher=rehearsal`."""

import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy

from stocktake.cli.words import check_typed
from stocktake.rehearsal.summary import SUMMARY_NAME

CONFIG_DIR = Path("conf").absolute()  # train.py is started in the same folder
LAUNCHER = "hydra/launcher=rehearsal"
Differences = Callable[[Path, Path], list[str]]


def split_words(words: Sequence[str], own_keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the words that are the rehearsal's own (its keys, and Hydra's flags), and those for train.py."""
    own = [word for word in words if word.partition("=")[0] in own_keys or word.startswith("-")]
    return own, [word for word in words if word not in own]


def with_defaults(words: Sequence[str], defaults: Sequence[str]) -> list[str]:
    """Returns `words` and those of `defaults` whose key is not among them."""
    typed = {_key(word) for word in words}
    return [*words, *(word for word in defaults if _key(word) not in typed)]


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def rehearse(
    words: Sequence[str],
    faults_word: str,
    differences: Differences,
    *,
    hosts: int,
    clean: bool,
    compare: bool,
    full: bool,
    epochs: int,
    steps_per_epoch: int,
    checkpoint_every: int,
    folder: str,
    **_: Any,
) -> int:
    """Rehearses `train.py <words>`, tells how it went and returns the exit code.

    Raises:
        WrongWord: train.py takes no such words.

    Args:
        words: For train.py.
        faults_word: The value of `hydra.launcher.faults`.
        differences: Names what differs between two checkpoints.
        hosts: Instances.
        clean: Whether the instances run in an environment like the image's.
        compare: Whether to run it without faults, too.
        full: The whole training; else `epochs` of `steps_per_epoch`.
        checkpoint_every: Steps.
    """
    began = time.monotonic()
    root = Path(folder, time.strftime("%m%d-%H%M%S")).absolute()
    defaults = ["compute=spot", "callbacks=spot", "resume=true", f"compute.num_instances={hosts}"]
    if not full:
        defaults += [
            *(f"trainer.max_epochs={epochs}", f"+trainer.limit_train_batches={steps_per_epoch}"),
            *("+trainer.limit_val_batches=2", "data.num_workers=0", "logger=csv"),
            f"callbacks.spot.every_n_train_steps={checkpoint_every}",
        ]
    words = [*with_defaults(words, defaults), f"hydra.launcher.clean={clean}"]
    check_typed(CONFIG_DIR, "train", [*words, LAUNCHER])
    if not full:
        print(
            f"A shortened training: at most {epochs * steps_per_epoch} steps in {epochs} epochs, saved every "
            f"{checkpoint_every}. full=true rehearses the whole one."
        )
    told = _run(words, root, "with-faults", faults_word)
    answer = {key: told[key] for key in ("status", "attempts", "world_size", "steps_lost", "billed_s")}
    answer["model_answers"] = exported_model_answers(told)
    well = told["status"] == "Completed" and not told["unplayed_faults"] and answer["model_answers"]
    if compare:
        print("The same without faults:")
        whole = _run(words, root, "without-faults", "[]")
        differing = ["no run that ended to compare with"]
        if told["status"] == whole["status"] == "Completed":
            differing = differences(*(_last_checkpoint(run) for run in (told, whole)))
        answer["weights_equal"] = not differing
        well = well and not differing
        print(
            "The final checkpoints are equal, bit for bit."
            if not differing
            else f"The final checkpoints differ: {', '.join(differing[:5])}"
        )
    print(f"The rehearsal took {time.monotonic() - began:.0f} s; all of it is in {root}")
    print(json.dumps(answer))
    return 0 if well else 1


def _run(words: Sequence[str], root: Path, name: str, faults_word: str) -> dict[str, Any]:
    """Runs train.py with the rehearsal's launcher and returns the summary of its one job.

    Raises:
        SystemExit: It ended before a job was played; it has said why.
    """
    command = [
        *(sys.executable, "train.py", "-m", *words, LAUNCHER),
        *(f"hydra.launcher.folder={root}", f"hydra.launcher.job_name={name}"),
        *(f"hydra.launcher.faults={faults_word}", f"hydra.sweep.dir={root}/results"),
    ]
    returncode = subprocess.run(command, check=False).returncode  # noqa: S603 - words, no shell
    path = root / name / SUMMARY_NAME
    if not path.exists():
        sys.exit(returncode or 1)
    (told,) = json.loads(path.read_text())
    return {**told, "folder": str(path.parent)}


def _stored(told: dict[str, Any], url: str) -> Path:
    return Path(told["folder"], "s3", url.removeprefix("s3://"))


def _last_checkpoint(told: dict[str, Any]) -> Path:
    return max(_stored(told, told["checkpoint_url"]).rglob("step-*.ckpt"))


def exported_model_answers(told: dict[str, Any]) -> bool:
    """Whether the job's model.tar.gz holds an exported model and the server can count with it; says which, or why not.

    Args:
        told: A job's summary, with its `folder`.
    """
    from stocktake.serving.predictor import Predictor

    packed, folder = _stored(told, told["model_url"]), Path(told["folder"], "model")
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
