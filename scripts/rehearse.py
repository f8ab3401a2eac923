"""Plays a training on SageMaker through on this machine, interruptions included: no AWS, no Docker, no root.

python scripts/rehearse.py experiment=demo hosts=2 'faults=[notice,kill]' compare=true clean=true
python scripts/rehearse.py scenario=deploy experiment=demo
python scripts/rehearse.py experiment=resnet50_spot data.root=data/abid model.weights=none full=true
"""

import sys
from pathlib import Path

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None
from stocktake.rehearsal.command import Settings, rehearse, split_overrides

WHAT = {"train": "training on {hosts} hosts", "deploy": "deployment"}


def differences(faulty: Path, whole: Path) -> list[str]:
    from stocktake.model.torch_files import differences  # only now torch

    return differences(faulty, whole)


def main() -> None:
    own, train_overrides = split_overrides(sys.argv[1:])
    sys.argv[1:] = own  # the others are for train.py

    @command("rehearse", lambda cfg: f"Rehearses a {WHAT[cfg.scenario]} ...".format(**cfg))
    def run(cfg: Config) -> None:
        if cfg.scenario == "deploy":
            from stocktake.workflows.rehearse_deployment import rehearse_deployment

            sys.exit(rehearse_deployment(train_overrides, cfg.folder, cfg.full, cfg.clean))
        sys.exit(rehearse(train_overrides, Settings.of(cfg, own), differences))

    run()


if __name__ == "__main__":
    main()
