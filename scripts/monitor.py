"""Says whether a server's answers and images have drifted: monitoring.html and monitoring.json; ends with 1 if so.

python scripts/monitor.py log=runs/prediction-log baseline=runs/demo/latest/model
python scripts/monitor.py log=s3://my-bucket/log baseline=s3://my-bucket/models/bins last_days=7
"""

import sys

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


def first_line(cfg: Config) -> str:
    if cfg.schedule.request is not None:
        return f"Checks the request of a schedule for {cfg.log} ..."
    return f"Compares the answers in {cfg.log} with the baseline of {cfg.baseline} ..."


@command("monitor", first_line)
def main(cfg: Config) -> None:
    from stocktake.workflows.monitor import monitor, schedule

    if cfg.schedule.request is not None:
        schedule(cfg, sys.argv[1:])
    elif monitor(cfg).alarms:
        sys.exit(1)


if __name__ == "__main__":
    main()
