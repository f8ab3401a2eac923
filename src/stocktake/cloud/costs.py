"""What jobs cost: seconds that are billed, and AWS's Price List."""

import json
from collections.abc import Mapping
from typing import Any

PRICES_REGION = "us-east-1"  # the Price List answers there, whatever region it is asked about


def hourly_usd(aws: Any, instance_type: str, component: str = "Training") -> float | None:
    """Returns the on-demand price of an instance in USD an hour, `None` where AWS does not give it.

    Only people read it, so that no answer is an answer, too.

    Args:
        aws: A boto3 session; its region is that of the instance.
        component: What it is for: `Training` or `Hosting`.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    wanted = {"instanceName": instance_type, "regionCode": aws.region_name, "component": component}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    try:
        hurried = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
        client = aws.client("pricing", region_name=PRICES_REGION, config=hurried)
        found = client.get_products(ServiceCode="AmazonSageMaker", Filters=filters)["PriceList"]
        prices = {
            float(dimension["pricePerUnit"]["USD"])
            for product in map(json.loads, found)
            for offer in product["terms"]["OnDemand"].values()
            for dimension in offer["priceDimensions"].values()
        }
    except (BotoCoreError, ClientError, KeyError, ValueError):
        return None
    prices.discard(0.0)
    return prices.pop() if len(prices) == 1 else None  # of several nobody knows which is meant


def billed_s(described: Mapping[str, Any]) -> int | None:
    """Returns the seconds that AWS charges for, over all instances; `None` while it gives none.

    Source: DescribeTrainingJob, BillableTimeInSeconds: "Multiply this value by the number of instances".

    Args:
        described: The answer of DescribeTrainingJob.
    """
    seconds = described.get("BillableTimeInSeconds")
    if seconds is None:
        return None
    resources = described["ResourceConfig"]
    return seconds * resources.get("InstancePreferences", [resources])[0]["InstanceCount"]
