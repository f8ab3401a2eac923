"""Compares evaluations of the same bins: comparison.html and comparison.json, every difference with a paired interval.

python scripts/compare.py 'evaluations=[runs/a/evaluation-test,runs/b/evaluation-test]'
python scripts/compare.py 'evaluations=[runs/a0,runs/a1,runs/b0,runs/b1]' 'names=[baseline,baseline,best,best]'
"""

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("compare", lambda cfg: f"Compares {len(cfg.evaluations)} evaluations with paired intervals ...")
def main(cfg: Config) -> None:
    # Only now the metrics, which bring torch along.
    from stocktake.workflows.compare import compare

    compare(cfg)


if __name__ == "__main__":
    main()
