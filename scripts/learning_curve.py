"""Fits how the error falls with the number of training bins: learning_curve.json and learning_curve.html.

python scripts/learning_curve.py 'evaluations=[runs/a/evaluation-test,runs/b/evaluation-test,runs/c/evaluation-test]'
"""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="learning_curve")
def main(cfg: DictConfig) -> None:
    from stocktake.workflows.console import plain_errors
    from stocktake.workflows.learning_curve import learning_curve

    with plain_errors():
        learning_curve(cfg)


if __name__ == "__main__":
    main()
