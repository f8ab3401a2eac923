"""How sure a model may say it is, measured: as typed values, and as the part `calibration` of metrics.json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from stocktake.metrics.definitions import PROBABILITY_METRICS
from stocktake.metrics.estimate import Estimate, known

NUMBERS = ("temperature", "coverage", "threshold", "num_images", "ece_by_chance")
FIGURES = {  # key: the metric that it is of, as the model was trained or with the temperature
    "ece_before": "ece",
    "ece_after": "ece",
    "nll_before": "nll",
    "nll_after": "nll",
    "brier_before": "brier",
    "brier_after": "brier",
    "set_coverage": "set_coverage",
    "set_size": "set_size",
    "aurc": "aurc",
}
ADDED_LATER = ("brier_before", "brier_after")  # older files lack them
BY_CHANCE = "set_coverage_by_chance"


@dataclass(frozen=True)
class Reliability:
    """How often a model is right, by how sure it says it is: means over a bar's images, None in an empty one."""

    confidence: Sequence[float | None]
    accuracy: Sequence[float | None]
    num_images: Sequence[int]

    def mean(self, name: str) -> float | None:
        """Returns the mean of `confidence` or `accuracy` over the images of all bars, from the bars' own means."""
        pairs = [
            (value, num) for value, num in zip(getattr(self, name), self.num_images, strict=True) if value is not None
        ]
        total = sum(num for _, num in pairs)
        return sum(value * num for value, num in pairs) / total if total else None


@dataclass(frozen=True)
class RiskCoverage:
    """The share of wrong counts (`risk`) if only the surest images, shares rising to 1 (`coverage`), are answered."""

    coverage: Sequence[float]
    risk: Sequence[float]


@dataclass(frozen=True)
class CalibrationResult:
    """A `Calibration`, and what it does on images that it was not fitted on.

    Attributes:
        temperature: As in `Calibration`; so are `coverage`, `threshold` and `num_images`, which it was fitted on.
        figures: Those of FIGURES.
        ece_by_chance: The calibration error that so many images leave where every probability is true.
        set_coverage_by_chance: Between which shares the sets hold the record in 95 of 100 cases in which all is well.
        before: As the model was trained.
        after: With the temperature.
    """

    temperature: float
    coverage: float
    threshold: float
    num_images: int
    figures: Mapping[str, Estimate]
    ece_by_chance: float
    set_coverage_by_chance: tuple[float, float]
    before: Reliability
    after: Reliability
    risk_coverage: RiskCoverage

    def to_json(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "coverage": self.coverage,
            "threshold": self.threshold,
            "num_images": self.num_images,
            **{key: estimate.to_json() for key, estimate in self.figures.items()},
            "ece_by_chance": self.ece_by_chance,
            BY_CHANCE: dict(zip(("low", "high"), self.set_coverage_by_chance, strict=True)),
            "reliability": {"before": asdict(self.before), "after": asdict(self.after)},
            "risk_coverage": asdict(self.risk_coverage),
        }

    @classmethod
    def from_json(cls, plain: Any) -> Self:
        """Reads what `to_json` gave.

        Raises:
            ValueError: A key is missing, is not a number where one is needed, or holds lists that do not fit each
                other; the message goes on from the file's name.
        """
        if not isinstance(plain, Mapping):
            raise ValueError(f"has calibration={str(plain)[:80]!r}, which no evaluation of this project has")
        needed = (*NUMBERS, *FIGURES, BY_CHANCE, "reliability", "risk_coverage")
        if missing := [key for key in needed if key not in plain and key not in ADDED_LATER]:
            raise ValueError(f"is wrong: calibration lacks {missing}")
        for key in NUMBERS:
            _require_numbers(key, [plain[key]])
        if plain["temperature"] <= 0:
            raise ValueError(
                f"is wrong: calibration.temperature={plain['temperature']}, but a number above 0 is needed"
            )
        low, high = _columns(BY_CHANCE, plain[BY_CHANCE], ("low", "high"), are_lists=False)
        diagrams = plain["reliability"] if isinstance(plain["reliability"], Mapping) else {}
        before, after = (
            Reliability(*_columns(f"reliability.{when}", diagrams.get(when), ("confidence", "accuracy", "num_images")))
            for when in ("before", "after")
        )
        curve = RiskCoverage(*_columns("risk_coverage", plain["risk_coverage"], ("coverage", "risk")))
        if list(curve.coverage) != sorted(curve.coverage) or curve.coverage[-1] != 1:
            raise ValueError(
                f"is wrong: calibration.risk_coverage.coverage={curve.coverage}, but shares rising to 1 are needed"
            )
        return cls(
            **{key: plain[key] for key in NUMBERS},
            figures={key: _figure(key, plain[key]) for key in FIGURES if key in plain},
            set_coverage_by_chance=(low, high),
            before=before,
            after=after,
            risk_coverage=curve,
        )


def _figure(key: str, plain: Any) -> Estimate:
    try:
        return Estimate.from_json(plain, PROBABILITY_METRICS[FIGURES[key]].is_share)
    except ValueError as error:
        raise ValueError(f"is wrong: calibration.{key}{error}") from None


def _columns(name: str, plain: Any, columns: Sequence[str], are_lists: bool = True) -> list[Any]:
    """Returns the numbers of each column: lists of one length, not empty, or a number each."""
    values: list[Any] = (
        [plain.get(column) for column in columns] if isinstance(plain, Mapping) else [None] * len(columns)
    )
    if are_lists:
        lengths = {
            column: len(value) if isinstance(value, list) else 0 for column, value in zip(columns, values, strict=True)
        }
        if 0 in lengths.values() or len({*lengths.values()}) > 1:
            raise ValueError(f"is wrong: calibration.{name} has lists of {lengths} numbers; as many are needed in each")
    for column, value in zip(columns, values, strict=True):
        may_be_unknown = column in ("confidence", "accuracy")
        _require_numbers(f"{name}.{column}", value if are_lists else [value], may_be_unknown)
    return [[known(number) for number in value] if are_lists else value for value in values]


def _require_numbers(name: str, values: Sequence[Any], may_be_unknown: bool = False) -> None:
    for value in values:
        is_number = type(value) in (int, float) and math.isfinite(value)
        is_unknown = value is None or (isinstance(value, float) and math.isnan(value))
        if not (is_number or (is_unknown and may_be_unknown)):
            raise ValueError(f"is wrong: calibration.{name} holds {value!r}, but a number is needed")
