"""Evaluates a checkpoint on a split: metrics.json, predictions.parquet and report.html, in the run's folder.

python scripts/evaluate.py checkpoint=runs/demo/latest/checkpoints/best.ckpt
python scripts/evaluate.py checkpoint=best.ckpt root=data/outside split=all
"""

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("evaluate", lambda cfg: f"Evaluates {cfg.checkpoint} on the bins of {cfg.split}. Loading PyTorch ...")
def main(cfg: Config) -> None:
    from stocktake.workflows.evaluate import evaluate

    evaluate(cfg)


if __name__ == "__main__":
    main()
