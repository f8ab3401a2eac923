"""Plays a training on SageMaker through on this machine, interruptions included: no AWS, no Docker, no root.

python scripts/rehearse.py experiment=demo hosts=2 'faults=[notice,kill]' compare=true clean=true
python scripts/rehearse.py experiment=resnet50_spot data.root=data/abid model.weights=none full=true
"""

import sys
from pathlib import Path

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None
from stocktake.rehearsal.command import split_words

OWN_KEYS = ["hosts", "faults", "clean", "compare", "full", "epochs", "steps_per_epoch", "checkpoint_every", "folder"]
OWN_WORDS, TRAIN_WORDS = split_words(sys.argv[1:], OWN_KEYS)
TYPED_FAULTS = [word.partition("=")[2] for word in OWN_WORDS if word.startswith("faults=")]  # train.py reads it, too


@command("rehearse", lambda cfg: f"Rehearses a training on {cfg.hosts} hosts ...")
def main(cfg: Config) -> None:
    from stocktake.model.checkpoint_differences import differences
    from stocktake.rehearsal.command import rehearse

    faults = TYPED_FAULTS[-1] if TYPED_FAULTS else f"[{','.join(cfg.faults)}]"
    sys.exit(rehearse(TRAIN_WORDS, faults, **{**cfg, "differences": differences}))


def differences(*checkpoints: Path) -> list[str]:
    from stocktake.workflows.equal_checkpoints import differences  # only now torch

    return differences(*checkpoints)


if __name__ == "__main__":
    sys.argv[1:] = OWN_WORDS
    main()
