"""What is known of bins that were collected, and the manifest made of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow

from stocktake.data.ingest.image_checks import ImageFacts
from stocktake.data.manifest import SCHEMA, Manifest
from stocktake.data.split import GUARD, SIDES, Split, crossing_pairs


@dataclass(slots=True)  # there may be half a million
class Bin:
    """What is known of one bin on its way into the dataset."""

    image_id: str
    count: int
    label_source: str
    contents: str | None = None
    num_products: int | None = None
    facts: ImageFacts | None = None

    def key(self, side: str) -> str:
        return "" if side == GUARD else f"data/{side}/{self.count}/{self.image_id}.jpg"


def manifest_of(bins: Mapping[str, Bin], sides: Mapping[str, str], split: Split, origin: dict[str, Any]) -> Manifest:
    """Returns the manifest of bins by their ids, whose sides `split` chose; `origin` is what else is told of them."""
    kept = {image_id: side for image_id, side in sides.items() if image_id in bins}
    sizes = Counter(kept.values())
    rule = {"rule": split.rule, "block": split.block, "seed": split.seed, "fractions": dict(split.fractions)}
    origin = origin | {
        "split": rule,
        "num_images": {side: sizes[side] for side in (*SIDES, GUARD)},
        # Bins that are independent of their neighbours (block=1) have no pairs that could cross.
        "num_crossing_pairs": crossing_pairs(kept) if split.block > 1 else 0,
    }
    return Manifest(_table([bins[image_id] for image_id in sorted(bins)], sides, split), origin)


def _table(bins: list[Bin], sides: Mapping[str, str], split: Split) -> pyarrow.Table:
    values = {
        "image_id": lambda item: item.image_id,
        "key": lambda item: item.key(sides[item.image_id]),
        "count": lambda item: item.count,
        "split": lambda item: sides[item.image_id],
        "group": lambda item: split.group(item.image_id),
        "label_source": lambda item: item.label_source,
        "num_products": lambda item: item.num_products,
    }
    # One column after the other, so that no more than one is in memory as Python objects.
    columns = []
    for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True):
        value = values.get(name, lambda item, name=name: item.facts and getattr(item.facts, name))
        columns.append(pyarrow.array(map(value, bins), kind))
    return pyarrow.Table.from_arrays(columns, schema=SCHEMA)
