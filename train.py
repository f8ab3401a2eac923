"""Trains a model that counts the items in a photo of a bin.

python train.py                                                        # a small net on drawn bins: no network needed
python train.py experiment=resnet50 data.root=data/abid                # the recipe that was asked for, on real bins
python train.py experiment=resnet50_spot data.root=s3://bucket/abid    # the same, resumable: typed again it goes on
python train.py experiment=mobilenet_transfer data.root=data/abid model.weights=mobilenetv2_100.safetensors
python train.py -m experiment=resnet50 model.optimizer.lr=1e-4,1e-3    # a sweep
python train.py experiment=resnet50 --cfg job                          # what a run would do
"""

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None
from stocktake.cli.training_messages import first_line, what_is_kept


@command("train", first_line, conf="conf", kept=what_is_kept)
def main(cfg: Config) -> float:
    # Only now torch, so that --help, --cfg and wrong overrides are answered at once.
    from stocktake.workflows.train import train

    return train(cfg)


if __name__ == "__main__":
    main()
