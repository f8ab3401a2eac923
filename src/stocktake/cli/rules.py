"""What a key may be: its type, its range, and an example of it to type."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What one key takes.

    Attributes:
        kind: `whole` or real `number`, `switch` (true or false), `text`, `choice` (one of `words`), `list`, `map`, or
            `any`.
        example: A value to type.
        low: The least number; not allowed itself where `is_open`.
        high: The largest number.
        words: Further values that stand for themselves, such as `auto`; None is `null`.
        item: What each entry of a list or map takes.
        least: Entries that a list has at least.
        most: Entries that a list has at most.
    """

    kind: str
    example: Any
    low: float | None = None
    high: float | None = None
    is_open: bool = False
    words: tuple[Any, ...] = ()
    item: "Rule | None" = None
    least: int = 0
    most: int | None = None

    def admits(self, value: Any) -> bool:
        """Whether `value`, plain and resolved, may stand here."""
        if any(value is word or (isinstance(word, str) and value == word) for word in self.words):
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
        if self.kind == "list":
            is_list = isinstance(value, Sequence) and not isinstance(value, str)
            return is_list and self._has_good_size(value) and all(map(self.item.admits, value))
        if self.kind == "map":
            return isinstance(value, Mapping) and all(map(self.item.admits, value.values()))
        return False

    def _is_within(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        is_low = self.low is not None and (value < self.low or (self.is_open and value == self.low))
        return not is_low and (self.high is None or value <= self.high)

    def _has_good_size(self, values: Sequence[Any]) -> bool:
        return self.least <= len(values) and (self.most is None or len(values) <= self.most)

    def __str__(self) -> str:
        """What is allowed, in words: `a whole number of at least 1, or null`."""
        words = list(dict.fromkeys("null" if word is None else str(word) for word in self.words))  # 16 and "16" are one
        if self.kind == "choice":
            return ("one of " if len(words) > 1 else "") + ", ".join(words)
        return ", or ".join([self._own_words(), *words])

    def _own_words(self) -> str:
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
            return f"a map in braces, each value {self.item}"
        return {"switch": "true or false", "text": "text that is not empty"}.get(self.kind, "anything")


def whole(
    low: int | None = 0, high: int | None = None, *, example: int | None = None, words: Sequence[Any] = ()
) -> Rule:
    return Rule("whole", low if example is None else example, low, high, words=tuple(words))


def number(low: float | None = 0, high: float | None = None, *, example: float, words: Sequence[Any] = ()) -> Rule:
    return Rule("number", example, low, high, words=tuple(words))


def above(low: float, high: float | None = None, *, example: float, words: Sequence[Any] = ()) -> Rule:
    """A number larger than `low`."""
    return Rule("number", example, low, high, is_open=True, words=tuple(words))


def switch(*words: Any, example: bool = True) -> Rule:
    return Rule("switch", example, words=words)


def text(example: str, *words: Any) -> Rule:
    return Rule("text", example, words=words)


def choice(*words: Any) -> Rule:
    return Rule("choice", words[0], words=words)


def list_of(item: Rule, example: Sequence[Any], *words: Any, least: int = 0, most: int | None = None) -> Rule:
    return Rule("list", list(example), words=words, item=item, least=least, most=most)


def map_of(item: Rule, example: Mapping[str, Any], *words: Any) -> Rule:
    return Rule("map", dict(example), words=words, item=item)


def either(*rules: Rule) -> Rule:
    """Returns what admits a value that one of `rules` does; the first one's example is told."""
    return _Either("either", rules[0].example, words=rules)


class _Either(Rule):
    def admits(self, value: Any) -> bool:
        return any(rule.admits(value) for rule in self.words)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.words))


def anything(example: Any = None) -> Rule:
    """For what only the class that takes it can judge."""
    return Rule("any", example)
