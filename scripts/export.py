"""Exports a checkpoint as one folder that counts items without torch: model.onnx, model.json, baseline.json, README.md.

python scripts/export.py checkpoint=runs/demo/latest/checkpoints/best.ckpt
python scripts/export.py checkpoint=best.ckpt output_dir=s3://my-bucket/models/bins
"""

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("export", lambda cfg: f"Exports {cfg.checkpoint}. Loading PyTorch ...")
def main(cfg: Config) -> None:
    from stocktake.workflows.export import export

    export(cfg)


if __name__ == "__main__":
    main()
