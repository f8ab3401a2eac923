"""What an instance costs an hour, from AWS's Price List; only for words to a person, so that no answer is an answer."""

import json
from typing import Any

PRICES_REGION = "us-east-1"  # the Price List answers there, whatever region it is asked about


def hourly_usd(aws: Any, instance_type: str) -> float | None:
    """Returns the on-demand price of a training instance in USD an hour, `None` where AWS does not tell it.

    Args:
        aws: A boto3 session; its region is that of the instance.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    wanted = {"instanceName": instance_type, "regionCode": aws.region_name, "component": "Training"}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    try:
        hurried = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
        client = aws.client("pricing", region_name=PRICES_REGION, config=hurried)
        told = client.get_products(ServiceCode="AmazonSageMaker", Filters=filters)["PriceList"]
        prices = {
            float(dimension["pricePerUnit"]["USD"])
            for product in map(json.loads, told)
            for offer in product["terms"]["OnDemand"].values()
            for dimension in offer["priceDimensions"].values()
        }
    except (BotoCoreError, ClientError, KeyError, ValueError):
        return None
    prices.discard(0.0)
    return prices.pop() if len(prices) == 1 else None  # of several nobody knows which is meant
