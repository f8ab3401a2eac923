"""Collects bins into a dataset root: data/{train,valid,test}/<count>/<id>.jpg, and the tables that describe them.

manifest.parquet has a row for each image, records.parquet one for each product of a bin, and quarantine.jsonl one for
each bin that was left out, with the reason.

python scripts/prepare.py source=s3://aft-vbi-pds root=data/abid            # 10,441 public bins, no account needed
python scripts/prepare.py source=s3://aft-vbi-pds root=s3://my-bucket/abid
python scripts/prepare.py source=photos root=data/photos                    # your own, as photos/<count>/<file>
python scripts/prepare.py source=photos.csv root=data/photos                # your own, listed as path,count[,group]
python scripts/prepare.py source=photos root=data/photos split_rule=none         # an outside test set
"""

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None

KEPT = "The images fetched so far are kept; type the same again to go on."


@command("prepare", lambda cfg: f"Collects bins from {cfg.source} into {cfg.root} ...", kept=KEPT)
def main(cfg: Config) -> None:
    from stocktake.workflows.prepare import prepare

    prepare(cfg)


if __name__ == "__main__":
    main()
