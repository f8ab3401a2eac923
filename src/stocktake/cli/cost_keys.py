"""Rules of the keys of scripts/cost.py, beside those of a training."""

from collections.abc import Mapping
from typing import Any

from stocktake.cli.rules import Rule, above, list_of, map_of, number, switch, text, whole
from stocktake.cli.training_keys import TRAIN

INSTANCE_TYPES = list_of(text("ml.g5.xlarge"), ["ml.g4dn.xlarge", "ml.g5.xlarge"], None, least=1)
PRICE = above(0, example=1.41)


class _Prices(Rule):
    """USD an hour by instance type; typed as +prices.ml.g5.xlarge=1.41 it is a map of maps of maps."""

    def admits(self, value: Any) -> bool:
        return value is None or (isinstance(value, Mapping) and all(map(self._admits_price, value.values())))

    def _admits_price(self, value: Any) -> bool:
        return PRICE.admits(value) or (isinstance(value, Mapping) and bool(value) and self.admits(value))

    def __str__(self) -> str:
        return "a map in braces, each instance type's USD an hour a number above 0, or null"


PRICES = _Prices("map", {"ml.g5.xlarge": 1.41}, literals=(None,))
IMAGES = whole(1, literals=[None], example=4022)

COST = TRAIN | {
    "instance_types": INSTANCE_TYPES,
    "nums_instances": list_of(whole(1), [1, 2], least=1),
    "deadline_h": above(0, literals=[None], example=6),
    "images_per_s": above(0, literals=[None], example=480),
    "run": text("runs/resnet50/TIME", None),
    "efficiency": map_of(above(0, 1, example=0.9), {"2": 0.9}, None),
    "num_train_images": IMAGES,
    "num_valid_images": IMAGES,
    "start_s": number(0, literals=[None], example=300),
    "spot_discounts": list_of(number(0, 0.99, example=0.5), [0.5, 0.7], least=2, most=2),
    "region": text("us-east-1", None),
    "profile": text("default", None),
    "prices": PRICES,
    "ask_aws": switch(example=True),
    "runs": list_of(text("runs/resnet50_spot"), ["runs/resnet50_spot"], None, least=1),
    "output_dir": text("runs/costs", None),
}
