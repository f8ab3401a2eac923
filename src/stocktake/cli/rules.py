"""What a key may be: its type, its range, and an example of it to type."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TIME = re.compile(r"\d+:\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Rule:
    """What one key takes.

    Attributes:
        kind: `whole` or real `number`, `switch` (true or false), `text`, `time`, `choice` (one of `literals`), `list`,
            `map`, or `any`.
        example: A value to type.
        low: The least number; not allowed itself where `is_open`.
        high: The largest number.
        literals: Further values that stand for themselves, such as `auto`; None is `null`.
        item: What each entry of a list or map takes.
        least: Entries that a list has at least.
        most: Entries that a list has at most.
        keys: What the keys of a map may be, where not anything.
    """

    kind: str
    example: Any
    low: float | None = None
    high: float | None = None
    is_open: bool = False
    literals: tuple[Any, ...] = ()
    item: "Rule | None" = None
    least: int = 0
    most: int | None = None
    keys: tuple[str, ...] = ()

    def admits(self, value: Any) -> bool:
        """Whether `value`, plain and resolved, may stand here."""
        if any(value is literal or (isinstance(literal, str) and value == literal) for literal in self.literals):
            return True
        if self.kind == "any":
            return True
        if self.kind == "switch":
            return isinstance(value, bool)
        if self.kind == "whole":
            return isinstance(value, int) and not isinstance(value, bool) and self._is_within(value)
        if self.kind == "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and self._is_within(value)
        if self.kind == "text":
            return isinstance(value, str) and value.strip() != "" and "\0" not in value
        if self.kind == "time":
            return isinstance(value, str) and _TIME.fullmatch(value) is not None
        if self.kind == "list":
            is_list = isinstance(value, Sequence) and not isinstance(value, str)
            return is_list and self._has_good_size(value) and all(map(self._admits_item, value))
        if self.kind == "map":
            is_map = isinstance(value, Mapping) and len(value) >= self.least and set(value) <= set(self.keys or value)
            return is_map and all(map(self._admits_item, value.values()))
        return False

    def _admits_item(self, value: Any) -> bool:
        return self.item is None or self.item.admits(value)

    def _is_within(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        is_low = self.low is not None and (value < self.low or (self.is_open and value == self.low))
        return not is_low and (self.high is None or value <= self.high)

    def _has_good_size(self, values: Sequence[Any]) -> bool:
        return self.least <= len(values) and (self.most is None or len(values) <= self.most)

    def __str__(self) -> str:
        """What is allowed, in words: `a whole number of at least 1, or null`."""
        names = dict.fromkeys("null" if one is None else str(one) for one in self.literals)  # 16 and "16" are one
        if self.kind == "choice":
            return ("one of " if len(names) > 1 else "") + ", ".join(names)
        return ", or ".join([self._range(), *names])

    def _range(self) -> str:
        if self.kind in ("whole", "number"):
            name = "a whole number" if self.kind == "whole" else "a number"
            least = f"{'above' if self.is_open else 'of at least'} {self.low:g}" if self.low is not None else ""
            if self.high is None:
                return f"{name} {least}".strip()
            if self.low is not None and not self.is_open:
                return f"{name} from {self.low:g} to {self.high:.10g}"
            return f"{name} {least}{' and' if least else ''} at most {self.high:g}"
        if self.kind == "list":
            size = (
                ""
                if not self.least
                else f" of {self.least}"
                if self.most == self.least
                else f" of {self.least} or more"
            )
            return f"a list{size} in brackets, each {self.item}"
        if self.kind == "map":
            names = f" of {', '.join(self.keys)}" if self.keys else ""
            return f"a map{names} in braces, each value {self.item}"
        return {"switch": "true or false", "text": "text that is not empty", "time": "DD:HH:MM:SS"}.get(
            self.kind, "anything"
        )


def whole(
    low: int | None = 0, high: int | None = None, *, example: int | None = None, literals: Sequence[Any] = ()
) -> Rule:
    return Rule("whole", low if example is None else example, low, high, literals=tuple(literals))


def number(low: float | None = 0, high: float | None = None, *, example: float, literals: Sequence[Any] = ()) -> Rule:
    return Rule("number", example, low, high, literals=tuple(literals))


def above(low: float, high: float | None = None, *, example: float, literals: Sequence[Any] = ()) -> Rule:
    """A number larger than `low`."""
    return Rule("number", example, low, high, is_open=True, literals=tuple(literals))


def switch(*literals: Any, example: bool = True) -> Rule:
    return Rule("switch", example, literals=literals)


def text(example: str, *literals: Any) -> Rule:
    return Rule("text", example, literals=literals)


def choice(*literals: Any) -> Rule:
    return Rule("choice", literals[0], literals=literals)


def list_of(item: Rule, example: Sequence[Any], *literals: Any, least: int = 0, most: int | None = None) -> Rule:
    return Rule("list", list(example), literals=literals, item=item, least=least, most=most)


def map_of(item: Rule, example: Mapping[str, Any], *literals: Any, least: int = 0, keys: Sequence[str] = ()) -> Rule:
    return Rule("map", dict(example), literals=literals, item=item, least=least, keys=tuple(keys))


def either(*rules: Rule) -> Rule:
    """Returns what admits a value that one of `rules` does; the first one's example is shown."""
    return _Either("either", rules[0].example, literals=rules)


class _Either(Rule):
    def admits(self, value: Any) -> bool:
        return any(rule.admits(value) for rule in self.literals)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.literals))


def anything(example: Any = None) -> Rule:
    """For what only the class that takes it can judge."""
    return Rule("any", example)


# Rules of keys that several commands have.
AUTO_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
PRECISIONS = (
    *("auto", "32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true"),
    *("transformer-engine", "transformer-engine-float16", "32", "16", "64", "bf16", 32, 16, 64, None),
)
ACCELERATOR, PRECISION = choice(*AUTO_ACCELERATORS), choice(*PRECISIONS)
CHECKPOINT = "runs/demo/latest/checkpoints/best.ckpt"
FOLDER = text("runs/demo/latest/model", None)
NUM_WORKERS = whole(0, literals=[None], example=2)
LIMIT = whole(1, literals=[None], example=100)
COUNTS = list_of(whole(0), [1, 2, 3, 4, 5], least=2)
TIMES = ("weeks", "days", "hours", "minutes", "seconds")
TIME = either(Rule("time", "00:01:30:00"), map_of(whole(0), {"hours": 1}, least=1, keys=TIMES))


def under(prefix: str, rules: dict[str, Rule]) -> dict[str, Rule]:
    """Returns the rules with their keys below `prefix`."""
    return {f"{prefix}.{key}": rule for key, rule in rules.items()}


STORAGE = under(
    "storage",
    {
        "anonymous": switch(None),
        "endpoint": text("http://127.0.0.1:9000", None),
        "profile": text("default", None),
        "region": text("us-east-1", None),
        "requester_pays": switch(example=False),
        "max_retries": whole(0, example=8),
        "retry_timeout_s": above(0, example=60),
        "request_timeout_s": above(0, example=30),
    },
)

SPLIT = under(
    "split",
    {
        "rule": choice("grouped", "random", "none"),
        "block": whole(1, example=30),
        "fractions": map_of(number(0, 1, example=0.7), {"train": 0.7, "valid": 0.15, "test": 0.15}),
        "seed": whole(0, 2**32 - 1),
    },
)
