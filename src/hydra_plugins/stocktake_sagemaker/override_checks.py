"""Composes each job's overrides before money is spent: with the code that would be sent, in an environment like its.

That is another process, which imports torch and the job's own classes; this one stays without.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydra_plugins.stocktake_sagemaker.plan import Plan
from hydra_plugins.stocktake_sagemaker.problems import Problem

if TYPE_CHECKING:
    from stocktake.cloud.source_archive import Code

TIMEOUT_S = 300
# All else that this machine's environment holds the job's does not.
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


def folder_of_code(config: DictConfig) -> Path:
    """Returns the folder of the command's configuration, beside its code; the current one where it has none."""
    sources = [source.path for source in config.hydra.runtime.config_sources if source.provider == "main"]
    return Path(sources[0] if sources else ".").resolve()


def override_problems(
    plans: Sequence[Plan], code: Code, config: DictConfig, befores: Mapping[str, str] | None = None
) -> Iterator[Problem]:
    """Yields what would end the jobs in their first seconds.

    Args:
        config: Of the launch, with Hydra's part.
        befores: For each job's name the config.yaml of the run that it would go on with; then only that is compared.
    """
    config_folder = folder_of_code(config)
    if not config_folder.is_relative_to(code.root.resolve()):
        return  # a command whose configuration does not travel with the code is not this repository's
    jobs = [
        {
            "name": plan.name,
            "overrides": [*plan.overrides, *plan.added_overrides],
            "environment": _environment(plan),
            "before": (befores or {}).get(plan.name),
        }
        for plan in plans
        if befores is None or plan.name in befores
    ]
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(code.archive())) as archive:
            archive.extractall(folder, filter="data")
        request = {
            "config_folder": str(Path(folder, config_folder.relative_to(code.root.resolve()))),
            "config_name": config.hydra.job.config_name,
            "jobs": jobs,
        }
        print("Composing the overrides as the job will, and binding them to what they build ...", flush=True)
        found = _problems_by_job(request, folder)
    for (text, is_missing), names in found.items():
        # What is wrong with all of a sweep is reported once.
        yield Problem(text if len(names) == len(plans) else f"{text} (in {', '.join(names)})", is_missing)


def _environment(plan: Plan) -> dict[str, str]:
    """Returns the variables that the container will have, as far as a configuration may ask for them."""
    request = plan.requests[0]
    resources = request["ResourceConfig"]
    num_hosts = resources.get("InstanceCount", resources.get("InstancePreferences", [{}])[0].get("InstanceCount"))
    variables = {"RUN_DIR": "/opt/ml/checkpoints/run", "GROUP_WORLD_SIZE": num_hosts, **request["Environment"]}
    return {name: str(value) for name, value in variables.items()}


def _problems_by_job(request: Mapping[str, Any], folder: str) -> dict[tuple[str, bool], list[str]]:
    """Returns each problem, and whether it is something missing, with the names of the jobs that have it."""
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    source = os.pathsep.join(filter(None, [str(Path(folder, "src")), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stocktake.training.job_check"],
            cwd=folder,
            env=environment | {"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"},
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"The overrides were not checked: that took longer than {TIMEOUT_S} s here.")
        return {}
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was ended"])[-1]
        names = [job["name"] for job in request["jobs"]]
        return {(f"The code that would be sent does not start: {reason}", False): names}
    found: dict[tuple[str, bool], list[str]] = {}
    for name, problems in json.loads(done.stdout.strip().splitlines()[-1]).items():
        for kind, texts in problems.items():
            for text in texts:
                found.setdefault((text, kind == "missing"), []).append(name)
    return found
