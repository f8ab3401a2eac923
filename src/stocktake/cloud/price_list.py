"""AWS's Price List: what an instance costs, and what it answered before, kept in the user's cache with its day.

An answer names one price for each way to use a type. For training they are told apart by `component` and `usagetype`
of the product; a bill of July 2026 had a meter of its own for spot, SpotTraining, at another price than Training.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from stocktake.storage import Folder

PRICES_REGION = "us-east-1"  # the Price List answers there, whatever region it is asked about
CACHE_NAME = "prices.json"


@dataclass(frozen=True)
class KnownPrice:
    """What the Price List said of a type; `spot_usd_per_hour` is of the meter for spot, `None` where it names none."""

    usd_per_hour: float
    spot_usd_per_hour: float | None
    day: date


def hourly_usd(aws: Any, instance_type: str, component: str = "Training") -> float | None:
    """Returns the on-demand price of an instance in USD an hour, `None` where AWS does not give it.

    Only people read it, so that no answer is an answer, too.

    Args:
        aws: A boto3 session; its region is that of the instance.
        component: What it is for: `Training`, `Hosting` or `Batch Transform`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return _single(_products(aws, instance_type, component), is_spot=False)
    except (BotoCoreError, ClientError, KeyError, TypeError, ValueError):
        return None


def asked_prices(aws: Any, instance_types: Iterable[str], today: date) -> dict[str, KnownPrice]:
    """Asks AWS, keeps what it answers in the user's cache, and returns it; a type without one price is left out.

    Args:
        aws: A boto3 session; its region is that of the instances.

    Raises:
        ValueError: AWS does not answer, or refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    found = {}
    for instance_type in instance_types:
        try:
            products = _products(aws, instance_type, "Training")
            products += _products(aws, instance_type, "SpotTraining")
        except (BotoCoreError, ClientError) as error:
            raise ValueError(
                f"AWS's Price List does not tell what {instance_type} costs: {error} "
                "Type ask_aws=false, and the price itself where it is not known: "
                f"'prices={{{instance_type}: <USD an hour>}}'"
            ) from error
        if (usd_per_hour := _single(products, is_spot=False)) is not None:
            found[instance_type] = KnownPrice(usd_per_hour, _single(products, is_spot=True), today)
    _keep(aws.region_name, found)
    return found


def _products(aws: Any, instance_type: str, component: str) -> list[dict[str, Any]]:
    from botocore.config import Config

    wanted = {"instanceName": instance_type, "regionCode": aws.region_name, "component": component}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    hurried = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    client = aws.client("pricing", region_name=PRICES_REGION, config=hurried)
    found = client.get_products(ServiceCode="AmazonSageMaker", Filters=filters)["PriceList"]
    products = [json.loads(product) for product in found]
    for product in products:  # what it was asked for, where the product itself does not say
        product["asked"] = component
    return products


def _single(products: Iterable[Mapping[str, Any]], is_spot: bool) -> float | None:
    """Returns the one price of these products; of several nobody knows which is meant."""
    prices = {
        float(dimension["pricePerUnit"]["USD"])
        for product in products
        if _is_spot(product) is is_spot
        for offer in product["terms"]["OnDemand"].values()
        for dimension in offer["priceDimensions"].values()
    } - {0.0}
    return prices.pop() if len(prices) == 1 else None


def _is_spot(product: Mapping[str, Any]) -> bool:
    attributes = product.get("product", {}).get("attributes", {})
    return "spot" in f"{attributes.get('component', product['asked'])} {attributes.get('usagetype', '')}".lower()


def cache_path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "stocktake", CACHE_NAME)


def cached_prices(region: str) -> dict[str, KnownPrice]:
    """Returns what the Price List answered before of a region."""
    try:
        return {one: _read(entry) for one, entry in _kept().get(region, {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        print(f"{cache_path()} is damaged ({error!r}), and nothing is taken from it.", file=sys.stderr)
        return {}


def _kept() -> dict[str, Any]:
    path = cache_path()
    return json.loads(path.read_text()) if path.is_file() else {}


def _read(entry: Mapping[str, Any]) -> KnownPrice:
    spot = entry["spot_usd_per_hour"]
    day = date.fromisoformat(entry["day"])
    return KnownPrice(float(entry["usd_per_hour"]), None if spot is None else float(spot), day)


def _keep(region: str, found: Mapping[str, KnownPrice]) -> None:
    known = {**cached_prices(region), **found}
    entries = {
        one: {"usd_per_hour": price.usd_per_hour, "spot_usd_per_hour": price.spot_usd_per_hour, "day": str(price.day)}
        for one, price in known.items()
    }
    try:
        regions = dict(_kept())
    except (TypeError, ValueError):  # damaged, as was just told
        regions = {}
    content = json.dumps({**regions, region: entries}, indent=1) + "\n"
    Folder(str(cache_path().parent)).write(CACHE_NAME, content.encode())
