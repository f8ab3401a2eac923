"""What `hydra.launcher.dry_run=true` prints: everything that would be sent."""

import json
from collections.abc import Sequence
from typing import Any

from hydra_plugins.stocktake_sagemaker.plan import Plan


def show(plans: Sequence[Plan], code: Any, script: str) -> None:
    """Prints requests, words and packed files; secrets are masked.

    Args:
        plans: Checked ones.
        code: A `stocktake.cloud.packing.Code`.
        script: What the instances run.
    """
    for plan in plans:
        for request in plan.requests:
            shown = request | {"Environment": _masked(request["Environment"])}
            print(f"CreateTrainingJob {plan.name}:\n{json.dumps(shown, indent=2)}")
        print(f"{plan.config_url}/overrides.json: {plan.config_file(script).decode()}")
        print(f"{plan.name}: checked against AWS's service model and the rules across its fields: all right.")
    print("\n".join(code.files))
    print(f"Code: {code.describe()}. Nothing was sent (hydra.launcher.dry_run=true).")


def _masked(environment: dict[str, str]) -> dict[str, str]:
    return {name: "***" if name == "WANDB_API_KEY" else value for name, value in environment.items()}
