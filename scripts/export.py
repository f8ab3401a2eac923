"""Exports a checkpoint as one folder that counts pictures without torch: model.onnx, model.json, README.md.

python scripts/export.py checkpoint=runs/demo/latest/checkpoints/best.ckpt
python scripts/export.py checkpoint=best.ckpt output_dir=s3://my-bucket/models/bins
"""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> None:
    from stocktake.workflows.console import plain_errors
    from stocktake.workflows.export import export

    with plain_errors():
        export(cfg)


if __name__ == "__main__":
    main()
