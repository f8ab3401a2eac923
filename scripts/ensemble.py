"""Makes one model of finished runs: its P(count) is the mean of theirs, calibrated on the validation bins.

python scripts/ensemble.py 'checkpoints=[runs/a/checkpoints/best.ckpt,runs/b/checkpoints/best.ckpt]'
python scripts/evaluate.py checkpoint=runs/ensemble/checkpoints/best.ckpt
"""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="ensemble")
def main(cfg: DictConfig) -> None:
    from stocktake.workflows.console import plain_errors
    from stocktake.workflows.ensemble import combine

    with plain_errors():
        combine(cfg)


if __name__ == "__main__":
    main()
