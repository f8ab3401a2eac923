"""Exports a checkpoint as one folder that counts pictures without torch: model.onnx, model.json, README.md.

python scripts/export.py checkpoint=runs/demo/latest/checkpoints/best.ckpt
python scripts/export.py checkpoint=best.ckpt output_dir=s3://my-bucket/models/bins
"""

from stocktake.cli.command import Config, command


@command("export", lambda cfg: f"Exports {cfg.checkpoint}. Loading PyTorch ...")
def main(cfg: Config) -> None:
    from stocktake.workflows.export import export

    export(cfg)


if __name__ == "__main__":
    main()
