"""Fits how the error falls with the number of training bins: learning_curve.json and learning_curve.html.

python scripts/learning_curve.py 'evaluations=[runs/a/evaluation-test,runs/b/evaluation-test,runs/c/evaluation-test]'
"""

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("learning_curve", lambda cfg: f"Fits a curve through {len(cfg.evaluations)} evaluations ...")
def main(cfg: Config) -> None:
    from stocktake.workflows.learning_curve import learning_curve

    learning_curve(cfg)


if __name__ == "__main__":
    main()
