"""Looks at an AWS account, makes in it what jobs and endpoints need, and takes all of it away again.

python scripts/aws.py action=setup dry_run=true budget_usd=null
python scripts/aws.py action=setup budget_email=me@example.com
python scripts/aws.py action=check
python scripts/aws.py action=teardown
"""

import sys

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("aws", "", kept="What was made or deleted before stays so; the same command goes on from there.")
def main(cfg: Config) -> None:
    from stocktake.workflows.aws import aws

    sys.exit(aws(cfg))


if __name__ == "__main__":
    main()
