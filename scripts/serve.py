"""Serves an exported model: a page at /, and SageMaker's /ping and /invocations.

python scripts/serve.py model=runs/demo/latest/model
python scripts/serve.py model=model port=0 host=0.0.0.0 log=json
curl --data-binary @bin.jpg --header 'Content-Type: image/jpeg' 'http://127.0.0.1:8080/invocations?expected_count=3'
"""

import sys

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("serve", lambda cfg: "" if cfg.log == "json" else f"Opens the model in {cfg.model} ...", conf="../conf/serve")
def main(cfg: Config) -> None:
    from stocktake.config import build
    from stocktake.serving.server import serve

    serve(**{**cfg, "storage": build(cfg.storage)})


if __name__ == "__main__":
    # SageMaker starts its containers as `docker run IMAGE serve`.
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "serve"]
    main()
