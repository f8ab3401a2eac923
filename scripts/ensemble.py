"""Makes one model of finished runs: its P(count) is the mean of theirs, calibrated on the validation bins.

python scripts/ensemble.py 'checkpoints=[runs/a/checkpoints/best.ckpt,runs/b/checkpoints/best.ckpt]'
python scripts/evaluate.py checkpoint=runs/ensemble/checkpoints/best.ckpt
"""

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("ensemble", lambda cfg: f"Makes one model of {len(cfg.checkpoints)} runs. Loading PyTorch ...")
def main(cfg: Config) -> None:
    from stocktake.workflows.ensemble import combine

    combine(cfg)


if __name__ == "__main__":
    main()
