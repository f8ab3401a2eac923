"""Source bucket -> dataset root: fetch, check, split, write; and say what was left out and why.

Two passes: first the records, which decide label and side; then the images of the bins that are used. Only so many
requests are under way at once, so memory does not grow with the images. What lies in the root already, from the same
source and no older than its image there, is checked and not fetched again, but for records, which are small; the
manifest is written last, so a root without is unfinished.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stocktake.data.ingest.collected import Bin, manifest_of
from stocktake.data.ingest.duplicates import near_pairs, repeated
from stocktake.data.ingest.existing import UNFINISHED_KEY, Present, PresentImage, note_source
from stocktake.data.ingest.image_checks import BadImage, check_image
from stocktake.data.ingest.parallel import in_turn
from stocktake.data.ingest.products import GatheredProducts
from stocktake.data.ingest.quarantine import Quarantine
from stocktake.data.manifest import Manifest
from stocktake.data.sources.abid_list import by_id, check_counts
from stocktake.data.sources.abid_records import LARGEST_QUANTITY, InvalidRecord, parse_record
from stocktake.data.split import GUARD, Split, set_pairs_aside, set_twins_aside
from stocktake.storage import Folder

MAX_REQUESTS = 4096  # each has a thread of its own
# Called with the name of the pass and its length; what it returns is called after every bin.
Progress = Callable[[str, int], Callable[[], None]]


class IngestError(ValueError):
    """What was asked for cannot be collected; the message names the key and what to type."""


@dataclass
class Ingest:
    """One pass from a source to a root; `run` does it all.

    Attributes:
        listing: (image id, count) of every bin to collect; a count of `None` is left to the record.
        counts: Bins with another count are not collected; `None` takes all.
        known_bad: Ids that a person looked at and found useless.
        max_bad_fraction: Of the listed bins, how many may be left out before this fails.
        num_requests: Requests under way at once.
        remove_leftovers: Remove images of an earlier split or list, which have no row in the new manifest.
        leftovers: The keys of such images, once it has run.

    Raises:
        ListError: `counts` is no list of different counts.
        IngestError: Another value is out of its range.
    """

    source: Folder
    root: Folder
    listing: Sequence[tuple[str, int | None]]
    split: Split
    counts: Sequence[int] | None = None
    known_bad: Iterable[str] = ()
    max_bad_fraction: float = 0.02
    num_requests: int = 128
    remove_leftovers: bool = False
    progress: Progress = lambda _name, _length: lambda: None
    quarantine: Quarantine = field(default_factory=Quarantine, init=False)
    bins: dict[str, Bin] = field(default_factory=dict, init=False)
    num_guards: dict[str, int] = field(default_factory=dict, init=False)
    leftovers: list[str] = field(default_factory=list, init=False)
    other_counts: set[int] = field(default_factory=set, init=False)

    def __post_init__(self):
        if self.counts is not None:
            check_counts(self.counts)
        if isinstance(self.known_bad, str) or not isinstance(self.known_bad, Iterable):
            raise IngestError(f"known_bad={self.known_bad!r} must be a list of ids, such as known_bad='[\"101047\"]'.")
        self.known_bad = frozenset(self.known_bad)
        if numbers := [image_id for image_id in self.known_bad if not isinstance(image_id, str)]:
            raise IngestError(
                f"known_bad={numbers} are no strings, and image ids are (242 and 00242 are two bins); quote each: "
                "known_bad='[\"101047\"]'."
            )
        if type(self.num_requests) is not int or not 1 <= self.num_requests <= MAX_REQUESTS:
            raise IngestError(f"num_requests={self.num_requests!r} must be a whole number from 1 to {MAX_REQUESTS}.")
        if not isinstance(self.max_bad_fraction, int | float) or not 0 <= self.max_bad_fraction <= 1:
            raise IngestError(f"max_bad_fraction={self.max_bad_fraction!r} must be a number from 0 to 1, such as 0.02.")

    def run(self) -> Manifest:
        """Collects, splits and writes.

        Returns:
            The manifest that now lies in the root.

        Raises:
            IngestError: A listed count is none, or no bin is left.
            SplitError: The rule cannot group an id.
            OtherSource: The root holds images of an unfinished run that collected from another source.
            TooManyBad: More than `max_bad_fraction` of the bins had to be left out; `quarantine.jsonl` says which.
            StorageError: Source or root could not be reached within the retry budget.
        """
        self.root.create()
        chosen = self._choose()
        with GatheredProducts() as products:
            self._each("records", chosen, lambda listed: self._take_record(*listed, products))
            sides = self._sides_by_record()
            used = [image_id for image_id, side in sides.items() if side != GUARD]
            present = Present.read(self.root, self.source)
            note_source(self.root, self.source, present)
            self._each("images", used, lambda image_id: self._take_image(image_id, sides[image_id], present.reusable))
            sides = self._sides_by_picture(sides)

            self.quarantine.write(self.root)
            self.quarantine.check(self.root, len(self.listing), self.max_bad_fraction)
            self._refuse_nothing()
            products.write(self.root, self.bins)
        manifest = manifest_of(self.bins, sides, self.split, self._origin())
        manifest.write(self.root)
        self.root.remove(UNFINISHED_KEY)
        self.leftovers = present.left_over(manifest.table["key"].to_pylist())
        if self.remove_leftovers:
            self._each("removals", self.leftovers, self.root.remove)
        return manifest

    def _choose(self) -> list[tuple[str, int | None]]:
        """Returns the listed bins that are neither known to be bad nor listed under two counts."""
        chosen = []
        for image_id, claims in sorted(by_id(self.listing).items()):
            self.split.group(image_id)  # an id that it cannot group is refused before anything is fetched
            if wrong := [count for count in claims if count is not None and not _is_count(count)]:
                raise IngestError(f"The list names {image_id} under {wrong}: counts are whole numbers from 0 on.")
            if image_id in self.known_bad:
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

    def _take_image(self, image_id: str, side: str, present: dict[str, PresentImage]) -> None:
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

    def _is_sound(self, image_id: str, key: str, present: PresentImage) -> bool:
        """Takes the facts of an image in the root; False if it is damaged there, or the source has another by now."""
        at_source = self.source.facts(f"bin-images/{image_id}.jpg")
        if at_source is None or present.is_older(at_source):
            return False
        try:
            facts = check_image(_read(self.root, key) or b"")
        except BadImage:
            return False
        self.bins[image_id].facts = facts
        return present.sha256 in (None, facts.sha256)

    def _is_wanted(self, count: int) -> bool:
        if self.counts is None or count in self.counts:
            return True
        self.other_counts.add(count)
        return False

    def _refuse_nothing(self) -> None:
        if not self.bins:
            others = f"; the records hold {sorted(self.other_counts)}" if self.other_counts else ""
            raise IngestError(f"No bin is left of {len(self.listing):,} listed ones with counts={self.counts}{others}.")

    def _origin(self) -> dict[str, Any]:
        return {"source": self.source.url, "num_guards": self.num_guards, "num_quarantined": len(self.quarantine)}

    def _leave_out(self, image_id: str, reason: str, detail: str) -> None:
        self.quarantine.add(image_id, reason, detail)
        self.bins.pop(image_id, None)


def _is_count(count: object) -> bool:
    return type(count) is int and 0 <= count <= LARGEST_QUANTITY


def _count_guards(sides: dict[str, str]) -> int:
    return Counter(sides.values())[GUARD]


def _read(folder: Folder, key: str) -> bytes | None:
    try:
        return folder.read(key)
    except FileNotFoundError:
        return None
