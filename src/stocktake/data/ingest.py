"""Source bucket -> dataset root: fetch, check, split, write; and say what was left out and why.

Two passes: first the records, which decide label and side; then the images of the bins that are used. Only so many
requests are under way at once, so memory does not grow with the images. What lies in the root already is checked there
and not fetched again, but for records, which are small; the manifest is written last, so a root without is unfinished.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow

from stocktake.data.duplicates import near_pairs, repeated
from stocktake.data.images import BadImage, ImageFacts, check_image
from stocktake.data.listing import by_id
from stocktake.data.manifest import SCHEMA, Manifest, ManifestError
from stocktake.data.products import GatheredProducts
from stocktake.data.quarantine import Quarantine
from stocktake.data.records import InvalidRecord, parse_record
from stocktake.data.split import GUARD, SIDES, Split, crossing_pairs, set_pairs_aside, set_twins_aside
from stocktake.data.transfer import in_turn
from stocktake.storage import Folder

# Called with the name of the pass and its length; what it returns is called after every bin.
Progress = Callable[[str, int], Callable[[], None]]


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


@dataclass
class Ingest:
    """One pass from a source to a root; `run` does it all.

    Attributes:
        listing: (image id, count) of every bin to collect; a count of `None` is left to the record.
        counts: Bins with another count are not collected; `None` takes all.
        known_bad: Ids that a person looked at and found useless.
        max_bad_fraction: Of the listed bins, how many may be left out before this fails.
        num_requests: Requests under way at once.
    """

    source: Folder
    root: Folder
    listing: Sequence[tuple[str, int | None]]
    split: Split
    counts: Sequence[int] | None = None
    known_bad: Iterable[str] = ()
    max_bad_fraction: float = 0.02
    num_requests: int = 128
    progress: Progress = lambda _name, _length: lambda: None
    quarantine: Quarantine = field(default_factory=Quarantine, init=False)
    bins: dict[str, Bin] = field(default_factory=dict, init=False)
    num_guards: dict[str, int] = field(default_factory=dict, init=False)

    def run(self) -> Manifest:
        """Collects, splits and writes.

        Returns:
            The manifest that now lies in the root.

        Raises:
            TooManyBad: More than `max_bad_fraction` of the bins had to be left out; `quarantine.jsonl` says which.
            StorageError: Source or root could not be reached within the retry budget.
        """
        self.root.create()
        with GatheredProducts() as products:
            self._each("records", self._choose(), lambda listed: self._take_record(*listed, products))
            sides = self._sides_by_record()
            used = [image_id for image_id, side in sides.items() if side != GUARD]
            present = self._present() if used else {}
            self._each("images", used, lambda image_id: self._take_image(image_id, sides[image_id], present))
            sides = self._sides_by_picture(sides)

            self.quarantine.write(self.root)
            self.quarantine.check(self.root, len(self.listing), self.max_bad_fraction)
            products.write(self.root, self.bins)
        manifest = Manifest(self._table(sides), self._origin(sides))
        manifest.write(self.root)
        return manifest

    def _choose(self) -> list[tuple[str, int | None]]:
        """Returns the listed bins that are neither known to be bad nor listed under two counts."""
        known_bad = set(self.known_bad)
        if numbers := [image_id for image_id in known_bad if not isinstance(image_id, str)]:
            raise ValueError(
                f"known_bad={numbers} are numbers and image ids are strings (242 and 00242 are two bins); "
                "quote each: known_bad='[\"101047\"]'"
            )
        chosen = []
        for image_id, claims in sorted(by_id(self.listing).items()):
            if image_id in known_bad:
                self._leave_out(image_id, "known-bad", "it stands in the list of known bad ids")
            elif len(claims) > 1:
                self._leave_out(image_id, "list-contradiction", f"the list names it under {sorted(map(str, claims))}")
            else:
                chosen.append((image_id, claims.pop()))
        return chosen

    def _sides_by_record(self) -> dict[str, str]:
        """Returns each bin's side by its id, less the bins whose contents also stand nearer to the test."""
        sides = {image_id: self.split.side(image_id) for image_id in sorted(self.bins)}
        self.num_guards["near a border"] = _count_guards(sides)
        if self.split.rule == "grouped":
            sides = set_twins_aside(sides, {image_id: item.contents for image_id, item in self.bins.items()})
            self.num_guards["of equal contents"] = _count_guards(sides) - self.num_guards["near a border"]
        return sides

    def _sides_by_picture(self, sides: dict[str, str]) -> dict[str, str]:
        """Leaves out repeated pictures, sets nearly equal ones on two sides aside, and removes both from the root."""
        facts = {image_id: item.facts for image_id, item in self.bins.items() if item.facts}
        unused = []
        for image_id, first in repeated({image_id: fact.sha256 for image_id, fact in facts.items()}).items():
            unused.append(self.bins[image_id].key(sides[image_id]))
            self._leave_out(image_id, "image-repeated", f"byte for byte the picture of {first}")
        before = {image_id: sides[image_id] for image_id in sorted(self.bins)}
        after = before
        if self.split.rule == "grouped":
            looks = {image_id: facts[image_id].look for image_id, side in before.items() if side != GUARD}
            after = set_pairs_aside(before, near_pairs(looks))
            self.num_guards["of nearly equal picture"] = _count_guards(after) - _count_guards(before)
        unused += [self.bins[image_id].key(side) for image_id, side in before.items() if side != after[image_id]]
        self._each("removals", unused, self.root.remove)
        return after

    def _each(self, name: str, items: Sequence, work: Callable) -> None:
        if items:
            in_turn(items, work, self.num_requests, self.progress(name, len(items)))

    def _take_record(self, image_id: str, count: int | None, products: GatheredProducts) -> None:
        content = _read(self.source, f"metadata/{image_id}.json")
        if content is None:  # never a count of 0: only the list knows it then
            if count is None:
                self._leave_out(image_id, "record-missing", "there is no record, and no list that gives a count")
            elif self._is_wanted(count):
                self.bins[image_id] = Bin(image_id, count, "list")
            return
        try:
            record = parse_record(content)
        except InvalidRecord as error:
            self._leave_out(image_id, error.reason, error.detail)
            return
        if count is not None and count != record.expected_quantity:
            detail = f"the list says {count}, the record {record.expected_quantity}"
            self._leave_out(image_id, "count-contradiction", detail)
        elif self._is_wanted(record.expected_quantity):
            self.bins[image_id] = Bin(
                image_id, record.expected_quantity, "record", record.contents, len(record.products)
            )
            products.add(image_id, record.products)

    def _present(self) -> dict[str, str | None]:
        """Returns the images that lie in the root from the same source, each with its sha256 if a manifest tells it."""
        keys = [key for key, _ in self.root.sizes("data")]
        try:
            earlier = Manifest.read(self.root)
        except ManifestError:
            return dict.fromkeys(keys)
        if earlier.origin["source"] != self.source.url:
            return {}
        known = dict(zip(earlier.table["key"].to_pylist(), earlier.table["sha256"].to_pylist(), strict=True))
        return {key: known.get(key) for key in keys}

    def _take_image(self, image_id: str, side: str, present: dict[str, str | None]) -> None:
        key = self.bins[image_id].key(side)
        if key in present and self._is_sound(image_id, key, present[key]):
            return
        content = _read(self.source, f"bin-images/{image_id}.jpg")
        if content is None:
            self._leave_out(image_id, "image-missing", f"bin-images/{image_id}.jpg does not exist")
            return
        try:
            self.bins[image_id].facts = check_image(content)
        except BadImage as error:
            self._leave_out(image_id, error.reason, error.detail)
        else:
            self.root.write(key, content)

    def _is_sound(self, image_id: str, key: str, sha256: str | None) -> bool:
        """Takes the facts of an image in the root; False if it was damaged there, so that it is fetched anew."""
        try:
            facts = check_image(_read(self.root, key) or b"")
        except BadImage:
            return False
        self.bins[image_id].facts = facts
        return sha256 in (None, facts.sha256)

    def _is_wanted(self, count: int) -> bool:
        return self.counts is None or count in self.counts

    def _leave_out(self, image_id: str, reason: str, detail: str) -> None:
        self.quarantine.add(image_id, reason, detail)
        self.bins.pop(image_id, None)

    def _table(self, sides: dict[str, str]) -> pyarrow.Table:
        bins = [self.bins[image_id] for image_id in sorted(self.bins)]
        values = {
            "image_id": lambda item: item.image_id,
            "key": lambda item: item.key(sides[item.image_id]),
            "count": lambda item: item.count,
            "split": lambda item: sides[item.image_id],
            "group": lambda item: self.split.group(item.image_id),
            "label_source": lambda item: item.label_source,
            "num_products": lambda item: item.num_products,
        }
        # One column after the other, so that no more than one is in memory as Python objects.
        columns = []
        for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True):
            value = values.get(name, lambda item, name=name: item.facts and getattr(item.facts, name))
            columns.append(pyarrow.array(map(value, bins), kind))
        return pyarrow.Table.from_arrays(columns, schema=SCHEMA)

    def _origin(self, sides: dict[str, str]) -> dict[str, Any]:
        kept = {image_id: side for image_id, side in sides.items() if image_id in self.bins}
        sizes = Counter(kept.values())
        return {
            "source": self.source.url,
            "split": {"rule": self.split.rule, "block": self.split.block, "seed": self.split.seed}
            | {"fractions": dict(self.split.fractions)},
            "num_images": {side: sizes[side] for side in (*SIDES, GUARD)},
            "num_guards": self.num_guards,
            "num_quarantined": len(self.quarantine),
            # Bins that are independent of their neighbours (block=1) have no pairs that could cross.
            "num_crossing_pairs": crossing_pairs(kept) if self.split.block > 1 else 0,
        }


def _count_guards(sides: dict[str, str]) -> int:
    return Counter(sides.values())[GUARD]


def _read(folder: Folder, key: str) -> bytes | None:
    try:
        return folder.read(key)
    except FileNotFoundError:
        return None
