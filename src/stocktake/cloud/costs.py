"""What finished jobs cost, by what SageMaker says of them: seconds that are billed, and seconds that were used.

Source: DescribeTrainingJob. "Multiply this value [BillableTimeInSeconds] by the number of instances"; the savings of
spot are `1 - BillableTimeInSeconds / TrainingTimeInSeconds`. So spot is paid by the hour, for fewer hours than it had.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Self

from stocktake.cloud.prices import InstancePrice, Prices
from stocktake.storage import Folder

COST_NAME = "cost.json"  # in the folder that a job's results come to
TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("job", "experiment", "status", "instance_type"), str),
    **dict.fromkeys(("num_instances", "training_s", "billable_s", "retained_s"), int),
    "is_spot": bool,
    **dict.fromkeys(("usd_per_hour", "spot_usd_per_hour"), (int, float, type(None))),
    **dict.fromkeys(("price_day", "price_source"), (str, type(None))),
}


def billed_s(described: Mapping[str, Any]) -> int | None:
    """Returns the seconds that AWS charges for, over all instances; `None` while it gives none.

    Args:
        described: The answer of DescribeTrainingJob.
    """
    seconds = described.get("BillableTimeInSeconds")
    return None if seconds is None else seconds * _chosen(described["ResourceConfig"], "InstanceCount")


def _chosen(resources: Mapping[str, Any], name: str) -> Any:
    """Returns type or number of the instances; of several types that of the one that AWS took, else of the first."""
    selected = resources.get(f"Selected{name}")
    return resources.get("InstancePreferences", [resources])[0][name] if selected is None else selected


@dataclass(frozen=True)
class JobCost:
    """One ended job's instances. Disk, requests and transfer are no part of it: AWS tells them by account only.

    Attributes:
        training_s: That it had its instances, each of them.
        billable_s: That AWS bills, for each of them.
        retained_s: That they were kept warm after it, and billed, each.
        usd_per_hour: Of an instance, on demand; `None` where it is not known.
        spot_usd_per_hour: Of the hours that AWS bills of a spot job; `None` where it is not known to differ.
        price_day: ISO 8601.
    """

    job: str
    experiment: str
    status: str
    instance_type: str
    num_instances: int
    is_spot: bool
    training_s: int
    billable_s: int
    retained_s: int = 0
    usd_per_hour: float | None = None
    spot_usd_per_hour: float | None = None
    price_day: str | None = None
    price_source: str | None = None

    @classmethod
    def of(cls, described: Mapping[str, Any], experiment: str, prices: Prices) -> Self:
        """Reads DescribeTrainingJob's answer of a job that has ended; one that never had instances costs nothing."""
        instance_type, num_instances = (
            _chosen(described["ResourceConfig"], f"Instance{one}") for one in ("Type", "Count")
        )
        price = prices.instances.get(instance_type)
        cost = cls(
            described["TrainingJobName"],
            experiment,
            described["TrainingJobStatus"],
            instance_type,
            num_instances,
            bool(described.get("EnableManagedSpotTraining")),
            described.get("TrainingTimeInSeconds", 0),
            described.get("BillableTimeInSeconds", 0),
            described.get("WarmPoolStatus", {}).get("ResourceRetainedBillableTimeInSeconds", 0),
        )
        return cost.priced(price) if price else cost

    def priced(self, price: InstancePrice) -> Self:
        """Returns the same job at another price."""
        usd_per_hour, of_spot = price.usd_per_hour, price.spot_usd_per_hour
        day, source = str(price.day), price.source
        return replace(self, usd_per_hour=usd_per_hour, spot_usd_per_hour=of_spot, price_day=day, price_source=source)

    @property
    def billed_s(self) -> int:
        """Over all instances."""
        return (self.billable_s + self.retained_s) * self.num_instances

    @property
    def usd(self) -> float | None:
        if self.usd_per_hour is None:
            return None
        of_spot = self.spot_usd_per_hour if self.is_spot else None
        paid = self.billable_s * (of_spot or self.usd_per_hour) + self.retained_s * self.usd_per_hour
        return paid * self.num_instances / 3600

    @property
    def on_demand_usd(self) -> float | None:
        """What the same instances would have cost on demand, for as long."""
        if self.usd_per_hour is None:
            return None
        return (self.training_s + self.retained_s) * self.num_instances * self.usd_per_hour / 3600

    @property
    def saved_share(self) -> float | None:
        """By AWS's formula; `None` where nothing was used."""
        return 1 - self.billable_s / self.training_s if self.training_s else None

    def describe(self) -> str:
        """Returns it in a line, as a person reads it."""
        seconds = f"{self.billable_s + self.retained_s:,} s billed of {self.training_s:,} s used"
        times = f", {self.num_instances} times" if self.num_instances > 1 else ""
        saved = f", {100 * self.saved_share:.1f} % saved" if self.is_spot and self.saved_share is not None else ""
        if self.usd is None:
            return f"{seconds}{times}{saved}; what {self.instance_type} costs is not known here"
        return f"{seconds}{times}{saved}: {self.usd:.2f} USD at {self.usd_per_hour:g} an hour ({self.price_day})"

    def to_json(self) -> dict[str, Any]:
        computed = {"usd": self.usd, "on_demand_usd": self.on_demand_usd, "saved_share": self.saved_share}
        return asdict(self) | computed

    def write(self, folder: Path) -> None:
        Folder(str(folder)).write(COST_NAME, (json.dumps(self.to_json(), indent=2) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            ValueError: The file is no such record.
        """
        try:
            found = json.loads(path.read_text())
            values = {key: found[key] for key in TYPES}
            wrong = [key for key, kind in TYPES.items() if not isinstance(values[key], kind)]
            if wrong:
                raise TypeError(f"{wrong[0]} is {values[wrong[0]]!r}")
            date.fromisoformat(values["price_day"] or "2026-01-01")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no {COST_NAME} of a job, or damaged: {error}. Take it out of runs=") from error
        return cls(**values)


@dataclass(frozen=True)
class CostTotal:
    """Several jobs together.

    Attributes:
        training_s: Over all instances, as are the others.
        billable_s: Of them.
        retained_s: Kept warm after it, and billed.
        usd: Of those whose price is known; `None` where none is.
        num_unpriced: Jobs whose price is not known, which are in the seconds only.
    """

    name: str
    num_jobs: int
    training_s: int
    billable_s: int
    retained_s: int
    usd: float | None
    on_demand_usd: float | None
    num_unpriced: int

    @classmethod
    def of(cls, name: str, costs: Sequence[JobCost]) -> Self:
        paid = [cost.usd for cost in costs if cost.usd is not None]
        full = [cost.on_demand_usd for cost in costs if cost.on_demand_usd is not None]
        return cls(
            name,
            len(costs),
            sum(cost.training_s * cost.num_instances for cost in costs),
            sum(cost.billable_s * cost.num_instances for cost in costs),
            sum(cost.retained_s * cost.num_instances for cost in costs),
            sum(paid) if paid else None,
            sum(full) if full else None,
            len(costs) - len(paid),
        )

    @property
    def billed_s(self) -> int:
        return self.billable_s + self.retained_s

    @property
    def saved_share(self) -> float | None:
        return 1 - self.billable_s / self.training_s if self.training_s else None
