"""Says what a training would cost on SageMaker, before it is begun and without an account, or what jobs did cost.

python scripts/cost.py experiment=resnet50_spot
python scripts/cost.py experiment=resnet50_spot deadline_h=6 'instance_types=[ml.g4dn.xlarge,ml.g5.xlarge]'
python scripts/cost.py 'runs=[runs/resnet50_spot]'
"""

try:
    from stocktake.cli.command import Config, command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing in this Python. Type: make setup && . .venv/bin/activate") from None


@command("cost", "")
def main(cfg: Config) -> None:
    if cfg.runs is not None:
        from stocktake.workflows.finished_costs import finished_costs

        finished_costs(cfg)
    else:
        from stocktake.workflows.cost import cost

        cost(cfg)


if __name__ == "__main__":
    main()
