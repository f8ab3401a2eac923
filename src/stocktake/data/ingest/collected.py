"""What is known of bins that were collected, and the manifest made of it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow

from stocktake.data.ingest.image_checks import ImageFacts
from stocktake.data.manifest import SCHEMA, Manifest
from stocktake.data.split import GUARD, SPLITS, SplitRule, crossing_pairs


@dataclass(slots=True)  # there may be half a million
class Bin:
    """What is known of one bin on its way into the dataset."""

    image_id: str
    count: int
    label_source: str
    group: str | None = None
    contents: str | None = None
    num_products: int | None = None
    facts: ImageFacts | None = None

    def key(self, split: str) -> str:
        """Returns where the image lies, once its facts are known; nowhere if it is set aside."""
        if split == GUARD or self.facts is None:
            return ""
        return f"{self.key_stem(split)}{self.facts.suffix}"

    def key_stem(self, split: str) -> str:
        """Returns the key without its suffix, which follows the format of the image."""
        return f"data/{split}/{self.count}/{self.image_id}"


def manifest_of(
    bins: Mapping[str, Bin], splits: Mapping[str, str], rule: SplitRule, origin: dict[str, Any]
) -> Manifest:
    """Returns the manifest of bins by their ids, whose splits `rule` chose; `origin` is what else it is to say."""
    kept = {image_id: split for image_id, split in splits.items() if image_id in bins}
    sizes = Counter(kept.values())
    # Bins that are independent of their neighbors, or that the source has grouped, have no pairs that could cross.
    neighbors = {image_id: split for image_id, split in kept.items() if rule.block > 1 and bins[image_id].group is None}
    origin = origin | {
        "split": {"rule": rule.rule, "block": rule.block, "seed": rule.seed, "fractions": dict(rule.fractions)},
        "num_images": {split: sizes[split] for split in (*SPLITS, GUARD)},
        "num_crossing_pairs": crossing_pairs(neighbors),
    }
    return Manifest(_table([bins[image_id] for image_id in sorted(bins)], splits, rule), origin)


def _table(bins: list[Bin], splits: Mapping[str, str], rule: SplitRule) -> pyarrow.Table:
    values: dict[str, Callable[[Bin], Any]] = {
        "image_id": lambda item: item.image_id,
        "key": lambda item: item.key(splits[item.image_id]),
        "count": lambda item: item.count,
        "split": lambda item: splits[item.image_id],
        "group": lambda item: rule.group_of(item.image_id, item.group),
        "label_source": lambda item: item.label_source,
        "num_products": lambda item: item.num_products,
    }
    # One column after the other, so that no more than one is in memory as Python objects.
    columns = []
    for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True):
        value = values.get(name) or (lambda item, name=name: item.facts and getattr(item.facts, name))
        columns.append(pyarrow.array([value(item) for item in bins], kind))
    return pyarrow.Table.from_arrays(columns, schema=SCHEMA)
