"""What this project's own code asks of AWS: each call is compared with a reviewed list, from which policies are judged.

tests/cloud/wire/calls.json has, for each call, the fields of one request that say what it touches. A test in which the
project makes another call fails; with REVIEW_CALLS=1 the call is added to the list, for a person to read before it is
kept: `REVIEW_CALLS=1 pytest -n 0 <those tests>`.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

CALLS = Path(__file__).parents[1] / "cloud" / "wire" / "calls.json"
ACCOUNT_COMMAND = "stocktake.workflows.aws"  # whose calls are a person's who sets up, not of who sends jobs
# Code whose calls count, and within it what plays AWS.
OWN = re.compile(r"(stocktake|hydra_plugins)\.(?!rehearsal\b)")
# Fields that say what a call touches, and under what conditions.
TELLING = re.compile(r"\w*(Name|Names|Arn|Arns|Tags|TagKeys|Bucket|Key|Prefix|SecretId|ResourceId|ServiceNamespace)")
MAX_CHARACTERS = 300


class UnknownCall(AssertionError):
    """A call that the reviewed list does not have."""


def install() -> None:
    """Looks at every call of every session of boto3's that this process makes from now on."""
    from botocore import handlers

    if (entry := ("provide-client-params.*.*", _look)) not in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.append(entry)


def _look(params: Mapping[str, Any], model: Any, **_: Any) -> None:
    modules = _modules()
    if modules and OWN.match(modules[0]):
        service = model.service_model.service_name
        whose = "setup" if any(module.startswith(ACCOUNT_COMMAND) for module in modules) else "person"
        if any(module == "stocktake.cloud.container" for module in modules):
            whose = "job"
        check(whose, f"{service} {model.name}", params)


def _modules() -> list[str]:
    """Returns the modules of the calls that led here, the innermost first, without boto3's own."""
    frame, found = sys._getframe(2), []
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("botocore", "boto3", __name__)):
            found.append(name)
        frame = frame.f_back
    return found


def check(whose: str, call: str, params: Mapping[str, Any]) -> None:
    """
    Raises:
        UnknownCall: It is not in the list.
    """
    if call in json.loads(CALLS.read_text()).get(whose, {}):
        return
    if not os.environ.get("REVIEW_CALLS"):
        raise UnknownCall(
            f"{call} ({whose}) is not in {CALLS.name}, so nobody looked whether the policies allow it. Type "
            f"REVIEW_CALLS=1 before the command of this test, read what is added, and see policies/{whose}.json"
        )
    with FileLock(Path(tempfile.gettempdir()) / "stocktake-calls.lock"):
        known = json.loads(CALLS.read_text())
        known.setdefault(whose, {})[call] = _telling(params)
        ordered = {who: dict(sorted(calls.items())) for who, calls in sorted(known.items())}
        CALLS.write_text(json.dumps(ordered, indent=2) + "\n")


def _telling(value: Any) -> Any:
    """Returns the fields of a request that say what it touches, those of its parts by a dotted name."""
    found = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            found |= {f"{key}.{inner}": each for inner, each in _telling(item).items()}
        elif TELLING.fullmatch(key) and len(str(item)) < MAX_CHARACTERS:
            found[key] = item
    return found
