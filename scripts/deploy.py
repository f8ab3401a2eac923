"""Makes an endpoint of SageMaker's of an exported model, updates it without downtime, deletes it; or counts a batch.

python scripts/deploy.py model=runs/demo/latest name=bins dry_run=true
python scripts/deploy.py model=runs/demo/latest name=bins
python scripts/deploy.py model=runs/demo/latest name=night target=batch input=s3://my-bucket/bins
python scripts/deploy.py action=delete name=bins
"""

import sys

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


def _kept(cfg: Config) -> str:
    from stocktake.workflows.deploy import kept

    return kept(cfg)


@command("deploy", "", conf="../conf/deploy", kept=_kept)
def main(cfg: Config) -> None:
    from stocktake.workflows.deploy import deploy

    sys.exit(deploy(cfg))


if __name__ == "__main__":
    main()
