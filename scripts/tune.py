"""Looks for a learning rate or a batch size, with the model, data and trainer of any experiment.

python scripts/tune.py experiment=resnet50 data.root=data/abid find=lr
python scripts/tune.py experiment=resnet50 data.root=data/abid find=batch_size
"""

import sys

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("tune", lambda cfg: f"Looks for a value for experiment {cfg.name}. Loading PyTorch ...")
def main(cfg: Config) -> float:
    # Only now torch, so that --help and wrong overrides are answered at once.
    from stocktake.workflows.tune import tune

    return tune(cfg, sys.argv[1:])


if __name__ == "__main__":
    main()
