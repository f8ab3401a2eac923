"""What `hydra.launcher.dry_run=true` prints: everything that would be sent, and all that is missing or wrong."""

import json
from collections.abc import Sequence
from typing import Any

from hydra_plugins.stocktake_sagemaker.plan import Plan
from hydra_plugins.stocktake_sagemaker.problems import Problem, told


def show(plans: Sequence[Plan], code: Any, script: str, problems: Sequence[Problem], list_files: bool) -> None:
    """Prints requests, words and what keeps them from being sent; secrets are covered.

    Args:
        code: A `stocktake.cloud.source_archive.Code`.
        script: What the instances run.
        list_files: Also name what is packed.
    """
    from stocktake.cloud.secrets import masked, masked_word

    for plan in plans:
        for request in plan.requests:
            shown = request | {"Environment": masked(request["Environment"])}
            print(f"CreateTrainingJob {plan.name}:\n{json.dumps(shown, indent=2)}")
        words = [masked_word(word) for word in (*plan.words, *plan.added)]
        print(f"{plan.config_url}/overrides.json: {json.dumps({'script': script, 'overrides': words})}\n")
    if list_files:
        print("\n".join(code.files))
    print(f"Code: {code.describe()}." + ("" if list_files else " hydra.launcher.list_files=true names them."))
    print("Nothing was sent (hydra.launcher.dry_run=true).")
    if problems:
        print(told(problems))
    else:
        print("Checked against AWS's service model, the rules across its fields and the job's own words: all right.")
