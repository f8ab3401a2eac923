"""Decides whether a challenger takes the champion's place: better by more than chance, and as well calibrated.

python scripts/promote.py challenger=runs/b/evaluation-test champion=runs/a/evaluation-test
python scripts/promote.py challenger=runs/b champion=runs/a margin=0.01
python scripts/promote.py challenger=runs/b champion=registry registry=bins endpoint=bins target=realtime
"""

import sys

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command(
    "promote",
    lambda cfg: f"Compares {cfg.challenger} with {cfg.champion or 'no champion'} ...",
    kept=lambda cfg: (
        "What AWS has begun goes on. To see it: python scripts/deploy.py action=list" if cfg.endpoint else ""
    ),
)
def main(cfg: Config) -> None:
    from stocktake.workflows.promote import promote

    sys.exit(not promote(cfg).is_promoted)


if __name__ == "__main__":
    main()
