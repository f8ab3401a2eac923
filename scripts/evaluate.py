"""Evaluates a checkpoint on a split: metrics.json, predictions.parquet and report.html, in the run's folder.

python scripts/evaluate.py checkpoint=runs/demo/latest/checkpoints/best.ckpt
python scripts/evaluate.py checkpoint=best.ckpt root=data/outside side=all
"""

from stocktake.cli.command import Config, command


@command("evaluate", lambda cfg: f"Evaluates {cfg.checkpoint} on the bins of {cfg.side}. Loading PyTorch ...")
def main(cfg: Config) -> None:
    from stocktake.workflows.evaluate import evaluate

    evaluate(cfg)


if __name__ == "__main__":
    main()
