"""Compares evaluations of the same bins: comparison.html and comparison.json, every difference with a paired interval.

python scripts/compare.py 'evaluations=[runs/a/evaluation-test,runs/b/evaluation-test]'
python scripts/compare.py 'evaluations=[runs/a0,runs/a1,runs/b0,runs/b1]' 'names=[baseline,baseline,best,best]'
"""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare")
def main(cfg: DictConfig) -> None:
    # Only now the metrics, which bring torch along, so that --help answers at once.
    from stocktake.workflows.compare import compare
    from stocktake.workflows.console import plain_errors

    with plain_errors():
        compare(cfg)


if __name__ == "__main__":
    main()
