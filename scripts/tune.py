"""Looks for a learning rate or a batch size, with the model, data and trainer of any experiment.

python scripts/tune.py experiment=resnet50 data.root=data/abid find=lr
python scripts/tune.py experiment=resnet50 data.root=data/abid find=batch_size
"""

import sys

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="tune")
def main(cfg: DictConfig) -> float:
    # Only now torch, so that --help answers at once.
    from stocktake.workflows.console import plain_errors
    from stocktake.workflows.tune import tune

    with plain_errors():
        return tune(cfg, sys.argv[1:])


if __name__ == "__main__":
    main()
