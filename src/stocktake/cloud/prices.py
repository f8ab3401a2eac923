"""What an hour of an instance costs, from whom it is known and of which day; and storage, requests and transfer.

In this order: what the user types, what AWS's Price List answered (price_list.py), and a small table for who is
offline, prices.json, which names its source. A price is never without its day, and an old one is said to be old.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from importlib import resources
from typing import Any, Self

from stocktake.cloud.preflight import DEFAULT_REGION, find_region, no_region, session
from stocktake.cloud.price_list import KnownPrice, asked_prices, cached_prices

OLD_AFTER_DAYS = 90
PRICING_PAGE = "https://aws.amazon.com/sagemaker/ai/pricing"


class PriceUnknown(ValueError):
    """Nobody has said what an instance costs; the message names it and what to type."""


@dataclass(frozen=True)
class InstancePrice:
    """
    Attributes:
        usd_per_hour: On demand.
        spot_usd_per_hour: Of the hours that AWS bills of a spot job, before the discount, which is fewer hours; `None`
            where it is not known.
        day: It is of.
        source: Who says so, in words.
    """

    instance_type: str
    usd_per_hour: float
    day: date
    source: str
    spot_usd_per_hour: float | None = None

    def notes(self, today: date) -> list[str]:
        """Returns what a reader must know of it."""
        age_days = (today - self.day).days
        old = f"; it is {age_days} days old" if age_days > OLD_AFTER_DAYS else ""
        return [f"{self.instance_type}: {self.usd_per_hour:g} USD an hour, {self.source}, {self.day}{old}."]


@dataclass(frozen=True)
class OtherPrices:
    """In USD.

    Attributes:
        volume_usd_per_gb_month: Of a training instance's disk.
        get_usd: One request to S3 that reads.
        put_usd: One that writes or lists.
        stored_usd_per_gb_month: In S3.
        fetched_usd_per_gb: From S3 to outside of AWS; within a region nothing is paid.
        source: Who says so.
    """

    volume_usd_per_gb_month: float
    get_usd: float
    put_usd: float
    stored_usd_per_gb_month: float
    fetched_usd_per_gb: float
    source: str

    @classmethod
    def of_table(cls) -> Self:
        training, s3 = _table()["training"], _table()["s3"]
        source = f"disk: {training['source']}, {training['date']}; S3: {s3['source']}"
        figures = {key: value for key, value in s3.items() if key != "source"}
        return cls(volume_usd_per_gb_month=training["volume_usd_per_gb_month"], source=source, **figures)


@dataclass(frozen=True)
class Prices:
    """Of one region, as far as they are known.

    Attributes:
        typed_as: What is to be typed, in the user's configuration, for a price that is not known.
    """

    region: str
    instances: Mapping[str, InstancePrice]
    other: OtherPrices
    typed_as: str = "prices={{{}: <USD an hour>}}"

    @classmethod
    def known(cls, region: str, typed: Mapping[str, float] | None = None, today: date | None = None) -> Self:
        """Returns what can be known without asking AWS.

        Args:
            typed: USD an hour by instance type; they count before all others.
            today: The day of what is typed.
        """
        table = _table()["training"]
        stands_in = "" if table["region"] == region else f" for {table['region']}, which stands in for {region}"
        source = f"by AWS's bill in this project's table{stands_in}"
        day = date.fromisoformat(table["date"])
        found = {one: InstancePrice(one, usd, day, source) for one, usd in table["usd_per_hour"].items()}
        found |= {one: _of_price_list(one, price) for one, price in cached_prices(region).items()}
        found |= {one: InstancePrice(one, usd, today or date.today(), "as typed") for one, usd in (typed or {}).items()}
        return cls(region, found, OtherPrices.of_table())

    def with_asked(self, asked: Mapping[str, KnownPrice], typed: Iterable[str]) -> Self:
        """Returns the same with what AWS's Price List says now, but of types that were `typed`."""
        new = {one: _of_price_list(one, price) for one, price in asked.items() if one not in set(typed)}
        return replace(self, instances={**self.instances, **new})

    def of(self, instance_type: str) -> InstancePrice:
        """
        Raises:
            PriceUnknown: It is not known.
        """
        if instance_type not in self.instances:
            raise PriceUnknown(
                f"What {instance_type} costs an hour is not known here. Look at {PRICING_PAGE} and type "
                f"'{self.typed_as.format(instance_type)}'"
            )
        return self.instances[instance_type]

    def oldest(self, instance_types: Iterable[str]) -> date:
        return min(self.of(one).day for one in instance_types)


def _of_price_list(instance_type: str, price: KnownPrice) -> InstancePrice:
    source = "by AWS's Price List"
    return InstancePrice(instance_type, price.usd_per_hour, price.day, source, price.spot_usd_per_hour)


@cache
def _table() -> dict[str, Any]:
    return json.loads(resources.files("stocktake.cloud").joinpath("prices.json").read_text())


def region_prices(
    typed: Mapping[str, Any] | None, profile: str | None, region: str | None, asked_types: Iterable[str]
) -> Prices:
    """Returns the prices of the region that was typed or is set.

    Args:
        typed: USD an hour by type, `{ml.g5.xlarge: 1.41}`, or maps in maps, which `+prices.ml.g5.xlarge=1.41` makes.
        asked_types: That AWS's Price List is asked for.

    Raises:
        ValueError: AWS is asked and does not answer, or of no region.
    """
    own = flat_prices(typed or {})
    set_region, asked_types = find_region(profile, region), dict.fromkeys(asked_types)
    prices = Prices.known(set_region or DEFAULT_REGION, own)
    if not asked_types:
        return prices
    if set_region is None:
        raise ValueError(no_region("region"))
    return prices.with_asked(asked_prices(session(profile, set_region, "profile"), asked_types, date.today()), own)


def flat_prices(typed: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns USD an hour by type, of `{ml.g5.xlarge: 1.41}`, or of maps in maps."""
    found: dict[str, float] = {}
    for name, value in typed.items():
        found |= flat_prices(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
