"""Checks a request before it is sent: against AWS's own description of its API, and across its fields.

boto3 itself checks required fields, types, unknown keys and minimums, and stops there; enums, patterns, lengths and
what one field demands of another come back from AWS as an error, or hours later as a failed job. The description is
botocore's service model, a file that lies beside it: no region, no credential, no network.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from typing import Any

from stocktake.cloud import endpoint_rules, tuning_rules, validation_rules

RULES = validation_rules.RULES | endpoint_rules.RULES | tuning_rules.RULES
TYPES = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (datetime, int, float, str),
    "blob": (bytes, bytearray, str),
    "list": (list, tuple),
    "map": (dict,),
    "structure": (dict,),
}

# AWS writes its patterns for Java; these are its character classes in Python's words, inside square brackets.
PUNCTUATION = r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u2bff\u3000-\u303f"  # most of what \p{P} and \p{S} are
JAVA_CLASSES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{M}": r"\u0300-\u036f",
    r"\p{P}": PUNCTUATION,
    r"\p{S}": PUNCTUATION,
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"\p{Zs}": " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000",
    r"\p{Alnum}": "a-zA-Z0-9",
    r"[\p{Print}]": "[ -~]",
    r"\p{Print}": "[ -~]",  # here without brackets around it
    r"\p{ASCII}": r"[\x00-\x7f]",
    r"\uD800\uDC00-\uDBFF\uDFFF": "\U00010000-\U0010ffff",  # pairs of which Python makes one character
    r"\z": r"\Z",
}
REPEATED_END = re.compile(r"\$\{\d+,\d+\}")  # which Java reads, as AWS writes it for its tags of tables


class RequestError(ValueError):
    """A request that AWS would refuse, or would accept and then not do what was meant; lists every problem."""


def check_request(
    operation: str,
    request: Mapping[str, Any],
    config_keys: Mapping[str, str] | None = None,
    service: str = "sagemaker",
) -> None:
    """Checks a request of one of AWS's APIs and reports all its problems in one error.

    Args:
        operation: The API's name of it, such as `CreateTrainingJob`.
        request: Its body.
        config_keys: Path in the request (`StoppingCondition.MaxWaitTimeInSeconds`, without list indices) to the
            key in the user's configuration that sets it.
        service: botocore's name of the API, such as `application-autoscaling`.

    Raises:
        RequestError: Something is wrong; each problem has a line with the key, the path, the value and what is
            allowed.
        ValueError: There is no such operation.
    """
    if lines := problem_lines(operation, request, config_keys, service):
        raise RequestError(
            f"{operation} would be refused, {len(lines)} problem(s):\n" + "\n".join(f"  {line}" for line in lines)
        )


def problem_lines(
    operation: str,
    request: Mapping[str, Any],
    config_keys: Mapping[str, str] | None = None,
    service: str = "sagemaker",
) -> list[str]:
    """Returns what `check_request` would report, a line for each problem."""
    from botocore.validate import ParamValidator

    shape = _input_shape(service, operation)
    problems = list(_shape_problems(shape, request, ""))
    # The rules rely on what botocore checks: that required fields are there, and of the right type.
    if operation in RULES and not ParamValidator().validate(request, shape).has_errors():
        problems += RULES[operation](request)
    return [f"{_named(path, config_keys or {})}: {message}" for path, message in problems]


@cache
def service_model(service: str) -> Any:  # botocore has no types
    """Returns botocore's description of an API."""
    import botocore.session

    return botocore.session.Session().get_service_model(service)


def _input_shape(service: str, operation: str) -> Any:
    model = service_model(service)
    if operation not in model.operation_names:
        close = get_close_matches(operation, model.operation_names) or model.operation_names[:1]
        raise ValueError(f"operation={operation!r} is not in the API of {service}: did you mean {' or '.join(close)}?")
    return model.operation_model(operation).input_shape


def _named(path: str, config_keys: Mapping[str, str]) -> str:
    parts = re.sub(r"\[\d+\]", "", path).split(".")
    while parts and ".".join(parts) not in config_keys:
        parts.pop()
    return f"{config_keys['.'.join(parts)]} ({path})" if parts else path


def _shape_problems(shape, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if not _has_type(value, shape.type_name):
        yield path, f"{value!r} is a {type(value).__name__}; it must be of type {shape.type_name}"
        return
    match shape.type_name:
        case "structure":
            yield from _structure_problems(shape, value, path)
        case "list":
            yield from _length_problems(shape, len(value), f"{len(value)} entries", path)
            for index, item in enumerate(value):
                yield from _shape_problems(shape.member, item, f"{path}[{index}]")
        case "map":
            yield from _length_problems(shape, len(value), f"{len(value)} entries", path)
            for key, item in value.items():
                yield from _shape_problems(shape.key, key, f"{path}.{key}")
                yield from _shape_problems(shape.value, item, f"{path}.{key}")
        case "string":
            yield from _length_problems(shape, len(value), f"{len(value)} characters", path)
            yield from _text_problems(shape, value, path)
        case "integer" | "long" | "float" | "double":
            yield from _length_problems(shape, value, str(value), path)


def _has_type(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (not isinstance(value, bool) or name == "boolean")


def _structure_problems(shape, value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    def inside(name: str) -> str:
        return f"{path}.{name}" if path else name

    for name in shape.required_members:
        if name not in value:
            yield inside(name), "is missing"
    for name, item in value.items():
        if name in shape.members:
            yield from _shape_problems(shape.members[name], item, inside(name))
        else:
            close = get_close_matches(name, shape.members)
            yield inside(name), "is not known to AWS" + (f": did you mean {close[0]}?" if close else "")


def _length_problems(shape, size: float, described: str, path: str) -> Iterator[tuple[str, str]]:
    minimum, maximum = shape.metadata.get("min"), shape.metadata.get("max")
    if minimum is not None and size < minimum:
        yield path, f"{described}; at least {minimum} needed"
    if maximum is not None and size > maximum:
        yield path, f"{described}; at most {maximum} allowed"


def _text_problems(shape, value: str, path: str) -> Iterator[tuple[str, str]]:
    allowed, pattern = shape.metadata.get("enum"), shape.metadata.get("pattern")
    if allowed and value not in allowed:
        close = get_close_matches(value, allowed) or allowed[:5]
        yield path, f"{value!r} is none of AWS's {len(allowed)} values: did you mean {' or '.join(close)}?"
    if pattern and not python_pattern(pattern).fullmatch(value):
        yield (
            path,
            f"{value[:80]!r} does not match {pattern}" + (" (no line breaks)" if pattern == ".*" else ""),
        )


@cache
def python_pattern(pattern: str) -> re.Pattern:
    """Compiles a pattern of the service model, which is written for Java."""
    for java, python in JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    # Java takes flags from where they stand, Python for a whole pattern; AWS's parts before them are of no letters.
    flags = re.IGNORECASE if "(?i)" in pattern else 0
    return re.compile(REPEATED_END.sub("$", pattern.replace("(?i)", "")), flags)
