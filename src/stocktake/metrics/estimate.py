"""A measured number with its 95 % interval: how it is printed, and how it goes to JSON and comes back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Estimate:
    """A number and the ends of its 95 % interval, each None where it could not be computed.

    Attributes:
        is_share: Printed as a share, in percent; JSON holds the number itself.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    is_share: bool = True

    @classmethod
    def of(cls, value: float, low: float, high: float, is_share: bool = True) -> Self:
        """From what numpy computed, where NaN is what could not be."""
        return cls(known(float(value)), known(float(low)), known(float(high)), is_share)

    @classmethod
    def from_json(cls, plain: Any, is_share: bool = True) -> Self:
        """From an object with `value` and, where there is an interval, `low` and `high`; null and NaN become None.

        Raises:
            ValueError: It is no such object; the message goes on from its name.
        """
        if not isinstance(plain, Mapping) or "value" not in plain:
            raise ValueError(f"={str(plain)[:80]!r}, but value, low and high are needed")
        value, low, high = (plain.get(key) for key in ("value", "low", "high"))
        if strange := [number for number in (value, low, high) if not (number is None or _is_number(number))]:
            raise ValueError(f" holds {strange[0]!r}, but a number is needed")
        return cls(known(value), known(low), known(high), is_share)

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        return f"{100 * self.value:.1f}\u202f%" if self.is_share else f"{self.value:.2f}"

    @property
    def interval(self) -> str:
        """The two ends in the unit of the number, or an empty string."""
        if self.low is None or self.high is None:
            return ""
        return f"{100 * self.low:.1f}–{100 * self.high:.1f}" if self.is_share else f"{self.low:.2f}–{self.high:.2f}"

    def is_clearly_below(self, other: "Estimate") -> bool:
        """Whether its interval ends before the other's begins; not where either is unknown."""
        return self.high is not None and other.low is not None and self.high < other.low


@dataclass(frozen=True)
class Difference(Estimate):
    """By how much one model's number is above another's, with its sign; of shares in points, hundredths of all bins."""

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        return f"{self._signed(self.value)} points" if self.is_share else self._signed(self.value)

    @property
    def interval(self) -> str:
        if self.low is None or self.high is None:
            return ""
        return f"{self._signed(self.low)} to {self._signed(self.high)}"

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def _signed(self, number: float) -> str:
        return (f"{100 * number:+z.1f}" if self.is_share else f"{number:+z.3f}").replace("-", "−")


def known(number: float | None) -> float | None:
    """The number, or None where JSON holds null or NaN."""
    return None if number is None or math.isnan(number) else number


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and not math.isinf(value)
