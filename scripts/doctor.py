"""Says what this machine has and lacks, and what to type: each line is ok or missing.

python scripts/doctor.py
python scripts/doctor.py network=true     # also asks AWS who you are, and whether data and weights can be had
"""

import sys
from pathlib import Path

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None

REPOSITORY = Path(__file__).resolve().parents[1]


@command("doctor", "Looks at this machine ...")
def main(cfg: Config) -> None:
    from stocktake.diagnostics.doctor import doctor

    sys.exit(doctor(REPOSITORY, cfg.network))


if __name__ == "__main__":
    main()
