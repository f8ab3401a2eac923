"""Plays a training on SageMaker through on this machine, interruptions included: no AWS, no Docker, no root.

python scripts/rehearse.py experiment=demo hosts=2 'faults=[notice,kill]' compare=true clean=true
python scripts/rehearse.py experiment=resnet50_spot data.root=data/abid model.weights=none full=true
"""

import sys

from stocktake.cli.command import Config, command
from stocktake.rehearsal.command import split_words

OWN_KEYS = (
    *("hosts", "faults", "clean", "compare", "full"),
    *("epochs", "steps_per_epoch", "checkpoint_every", "folder"),
)


@command("rehearse", lambda cfg: f"Rehearses a training on {cfg.hosts} hosts ...")
def main(cfg: Config) -> None:
    from stocktake.model.checkpoint_differences import differences
    from stocktake.rehearsal.command import rehearse

    sys.exit(rehearse(TRAIN_WORDS, FAULTS or f"[{','.join(cfg.faults)}]", differences, **cfg))


if __name__ == "__main__":
    own, TRAIN_WORDS = split_words(sys.argv[1:], OWN_KEYS)
    # As it was typed: train.py reads it with the same grammar.
    FAULTS = next((word.partition("=")[2] for word in own if word.startswith("faults=")), None)
    sys.argv[1:] = own
    main()
