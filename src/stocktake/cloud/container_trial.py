"""A trial of a tuning job: its hyperparameters, which come as text, become overrides of its own.

Uploaded beside container.py, so it has nothing but the standard library, too.

SageMaker hands a number on as its digits and one of several choices as it stood in the request, and both may come in
quotes. The channel `config` says what each searched key may be (`stocktake.tuning.sagemaker_space` writes it):

    "searched": {"model.optimizer.lr": "number", "data.batch_size": "whole", "head": {"\"corn\"": "corn"}}

with a `+` before a key that the configuration does not have.

An override is made of a key of that table and of digits, or of a text of that table: no value can add an override of
its own or run a command, whatever is in it.
"""

import json
import re
from collections.abc import Mapping

NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
WHOLE = re.compile(r"[-+]?[0-9]+")
JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
NOT_SEARCHED = ("_", "sagemaker_")  # begin what SageMaker and its toolkit tell each other


def trial_overrides(hyperparameters: Mapping[str, str], searched: Mapping[str, object]) -> list[str]:
    """Returns a trial's overrides in the order of the searched keys.

    Args:
        hyperparameters: As they lie in hyperparameters.json.
        searched: For each key `number`, `whole`, or the override's text for each choice.

    Raises:
        ValueError: A key is not searched, or its value is none that it may have.
    """
    given = {key: value for key, value in hyperparameters.items() if not key.startswith(NOT_SEARCHED)}
    keys = {override_key.lstrip("+"): override_key for override_key in searched}
    if unknown := sorted(set(given) - set(keys)):
        raise ValueError(f"Hyperparameter {unknown[0]!r} is not searched: {', '.join(keys) or 'none'}.")
    return [f"{keys[key]}={_text(key, given[key], searched[keys[key]])}" for key in keys if key in given]


def _text(key: str, value: str, kind: object) -> str:
    for text in (value, _unquoted(value), json.dumps(value)):
        if isinstance(kind, Mapping):
            if text in kind:
                return str(kind[text])
        elif (WHOLE if kind == "whole" else NUMBER).fullmatch(text):
            return text
    allowed = ", ".join(map(str, kind)) if isinstance(kind, Mapping) else f"a {kind}"
    raise ValueError(f"Hyperparameter {key}={value!r} is not what is searched: {allowed}.")


def _unquoted(value: str) -> str:
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, str) else value


def trial_name(environment: Mapping[str, str]) -> str:
    """Returns the name of the trial's job, which is that of its folder, too.

    Raises:
        ValueError: SageMaker did not tell it, or it is no name of a job.
    """
    name = environment.get("TRAINING_JOB_NAME", "")
    if not JOB_NAME.fullmatch(name):
        raise ValueError(f"TRAINING_JOB_NAME={name!r} is no name of a job: the trials' checkpoints would mix.")
    return name
