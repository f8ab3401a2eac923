"""Counts the items in images: files, folders, s3:// and web addresses.

python scripts/predict.py 'images=[bin.jpg]' checkpoint=runs/demo/latest/checkpoints/best.ckpt
python scripts/predict.py 'images=[photos/,"https://example.com/bin.jpg"]' checkpoint=best.ckpt
python scripts/predict.py 'images=[photos/]' checkpoint=best.ckpt json=true > counts.jsonl
python scripts/predict.py 'images=[photos/]' exported=runs/demo/latest/model
python scripts/predict.py 'images=[photos/]' endpoint=http://127.0.0.1:8080        # a running scripts/serve.py counts
"""

import sys

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("predict", "Counts the items in the images ...")
def main(cfg: Config) -> None:
    from stocktake.workflows.predict import predict

    predictions = predict(cfg)
    if any(prediction.error for prediction in predictions):
        sys.exit(1)


if __name__ == "__main__":
    main()
