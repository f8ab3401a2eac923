"""Makes an endpoint of SageMaker's of an exported model, updates it without downtime, and deletes it.

python scripts/deploy.py model=runs/demo/latest name=bins dry_run=true
python scripts/deploy.py model=runs/demo/latest name=bins
python scripts/deploy.py action=delete name=bins
"""

import sys

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command(
    "deploy",
    "",
    conf="../conf/deploy",
    kept="What AWS has begun goes on. To see it: python scripts/deploy.py action=list",
)
def main(cfg: Config) -> None:
    from stocktake.workflows.deploy import deploy

    sys.exit(deploy(cfg))


if __name__ == "__main__":
    main()
