"""Says what this machine has and lacks, and what to type: each line is ok or missing.

python scripts/doctor.py
python scripts/doctor.py network=true     # also asks AWS who you are, and whether data and weights can be had
"""

import sys
from pathlib import Path

try:
    import hydra  # noqa: F401 (only whether it is there)

    from stocktake.cli.command import Config, command  # first: from then on Ctrl-C ends in words
except ModuleNotFoundError as error:
    print(f"missing  {error.name}: this Python ({sys.executable}) is not the project's")
    print("         type: make setup && .venv/bin/python scripts/doctor.py")
    sys.exit(1)

REPOSITORY = Path(__file__).resolve().parents[1]


@command("doctor", "Looks at this machine ...")
def main(cfg: Config) -> None:
    from stocktake.diagnostics.doctor import doctor

    sys.exit(doctor(REPOSITORY, cfg.network))


if __name__ == "__main__":
    main()
