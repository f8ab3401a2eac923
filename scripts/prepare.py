"""Collects bins into a dataset root: data/{train,valid,test}/<count>/<id>.jpg, and the tables that describe them.

manifest.parquet has a row for each image, records.parquet one for each product of a bin, and quarantine.jsonl one for
each bin that was left out, with the reason.

python scripts/prepare.py source=s3://aft-vbi-pds root=data/abid            # 10,441 public bins, no account needed
python scripts/prepare.py source=s3://aft-vbi-pds root=s3://my-bucket/abid
python scripts/prepare.py source=/photos root=data/photos split=none        # an outside test set
"""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
def main(cfg: DictConfig) -> None:
    from stocktake.workflows.console import plain_errors
    from stocktake.workflows.prepare import prepare

    with plain_errors():
        prepare(cfg)


if __name__ == "__main__":
    main()
