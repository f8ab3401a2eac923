"""Evaluates a checkpoint on a split: metrics.json, predictions.parquet and report.html, in the run's folder.

python scripts/evaluate.py checkpoint=runs/demo/latest/checkpoints/best.ckpt
python scripts/evaluate.py checkpoint=best.ckpt root=data/outside side=all
"""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    from stocktake.workflows.console import plain_errors
    from stocktake.workflows.evaluate import evaluate

    with plain_errors():
        evaluate(cfg)


if __name__ == "__main__":
    main()
