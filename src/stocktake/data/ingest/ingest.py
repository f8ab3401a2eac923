"""Source -> dataset root: fetch, check, split, write; and say what was left out and why.

Two passes: first the records, which decide label and split; then the images of the bins that are used. Only so many
requests are under way at once, so memory does not grow with the images. What lies in the root already, from the same
source and no older than its image there, is checked and not fetched again, but for records, which are small; the
manifest is written last, so a root without is unfinished.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stocktake.data.ingest.collected import Bin, manifest_of
from stocktake.data.ingest.duplicates import near_pairs, repeated
from stocktake.data.ingest.existing import UNFINISHED_KEY, Present, PresentImage, note_source
from stocktake.data.ingest.image_checks import SUFFIXES, BadImage, check_image
from stocktake.data.ingest.parallel import in_turn
from stocktake.data.ingest.products import GatheredProducts
from stocktake.data.ingest.quarantine import Quarantine, known_bad_ids
from stocktake.data.manifest import Manifest
from stocktake.data.sources.abid_records import InvalidRecord
from stocktake.data.sources.source import ListedBin, Source, by_id, check_counts, is_count
from stocktake.data.split import GUARD, SplitRule, set_pairs_aside, set_twins_aside
from stocktake.storage import Folder

Item = TypeVar("Item")

MAX_REQUESTS = 4096  # each has a thread of its own
# Called with the name of the pass and its length; what it returns is called after every bin.
Progress = Callable[[str, int], Callable[[], None]]


class IngestError(ValueError):
    """What was asked for cannot be collected; the message names the key and what to type."""


@dataclass
class Ingest:
    """One pass from a source to a root; `run` does it all.

    Attributes:
        listing: The bins to collect, of those that the source lists.
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

    source: Source
    root: Folder
    listing: Sequence[ListedBin]
    split: SplitRule
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
        self.known_bad = known_bad_ids(self.known_bad)
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
            if self.source.has_records:
                self._each("records", chosen, lambda listed: self._take_record(listed, products))
            else:
                for listed in chosen:
                    self._take_listed(listed)
            splits = self._splits_by_record()
            used = [image_id for image_id, split in splits.items() if split != GUARD]
            present = Present.read(self.root, self.source.url)
            note_source(self.root, self.source.url, present)
            self._each("images", used, lambda image_id: self._take_image(image_id, splits[image_id], present.reusable))
            splits = self._splits_by_image(splits)

            self.quarantine.write(self.root)
            self.quarantine.check(self.root, len(self.listing), self.max_bad_fraction)
            self._refuse_nothing()
            products.write(self.root, self.bins)
        manifest = manifest_of(self.bins, splits, self.split, self._origin())
        manifest.write(self.root)
        self.root.remove(UNFINISHED_KEY)
        self.leftovers = present.left_over(manifest.table["key"].to_pylist())
        if self.remove_leftovers:
            self._each("removals", self.leftovers, self.root.remove)
        return manifest

    def _choose(self) -> list[ListedBin]:
        """Returns the listed bins that are neither known to be bad nor listed twice with different values."""
        chosen = []
        for image_id, claims in by_id(self.listing):
            self.split.group_of(image_id, claims[0].group)  # an id that cannot be grouped is refused before any request
            counts = [listed.count for listed in claims]
            if wrong := [count for count in counts if count is not None and not is_count(count)]:
                raise IngestError(f"The list names {image_id} under {wrong}: counts are whole numbers from 0 on.")
            if image_id in self.known_bad:
                self._leave_out(image_id, "known-bad", "it stands in the list of known bad ids")
            elif len(claims) > 1:
                column = "count" if len(set(counts)) > 1 else "group"
                values = sorted({str(getattr(listed, column)) for listed in claims})
                self._leave_out(image_id, "list-contradiction", f"the list names it under {values}")
            else:
                chosen.append(claims[0])
        return chosen

    def _splits_by_record(self) -> dict[str, str]:
        """Returns each bin's split by its id, less the bins whose contents also stand nearer to the test."""
        splits = {image_id: self.split.split_of(image_id, self.bins[image_id].group) for image_id in sorted(self.bins)}
        self.num_guards["near a border"] = _count_guards(splits)
        if self.split.rule == "grouped":
            splits = set_twins_aside(splits, {image_id: item.contents for image_id, item in self.bins.items()})
            self.num_guards["of equal contents"] = _count_guards(splits) - self.num_guards["near a border"]
        return splits

    def _splits_by_image(self, splits: dict[str, str]) -> dict[str, str]:
        """Leaves out repeated images, sets nearly equal ones in two splits aside, and removes both from the root."""
        facts = {image_id: item.facts for image_id, item in self.bins.items() if item.facts}
        unused = []
        for image_id, first in repeated({image_id: fact.sha256 for image_id, fact in facts.items()}).items():
            unused.append(self.bins[image_id].key(splits[image_id]))
            self._leave_out(image_id, "image-repeated", f"byte for byte the image of {first}")
        before = {image_id: splits[image_id] for image_id in sorted(self.bins)}
        after = before
        if self.split.rule == "grouped":
            looks = {image_id: facts[image_id].look for image_id, split in before.items() if split != GUARD}
            after = set_pairs_aside(before, near_pairs(looks))
            # Its name stands in manifests, whose hashes stand in checkpoints.
            self.num_guards["of nearly equal image"] = _count_guards(after) - _count_guards(before)
        unused += [self.bins[image_id].key(split) for image_id, split in before.items() if split != after[image_id]]
        self._each("removals", unused, self.root.remove)
        return after

    def _each(self, name: str, items: Sequence[Item], work: Callable[[Item], None]) -> None:
        if items:
            in_turn(items, work, self.num_requests, self.progress(name, len(items)))

    def _take_record(self, listed: ListedBin, products: GatheredProducts) -> None:
        image_id, count = listed.image_id, listed.count
        try:
            record = self.source.record(image_id)
        except InvalidRecord as error:
            self._leave_out(image_id, error.reason, error.detail)
            return
        if record is None:
            self._take_listed(listed)
        elif count is not None and count != record.expected_quantity:
            detail = f"the list says {count}, the record {record.expected_quantity}"
            self._leave_out(image_id, "count-contradiction", detail)
        elif self._is_wanted(record.expected_quantity):
            self.bins[image_id] = Bin(
                image_id, record.expected_quantity, "record", listed.group, record.contents, len(record.products)
            )
            products.add(image_id, record.products)

    def _take_listed(self, listed: ListedBin) -> None:
        """Takes a bin without a record: never a count of 0, only the list knows it then."""
        if listed.count is None:
            detail = "there is no record, and no list that gives a count"
            self._leave_out(listed.image_id, "record-missing", detail)
        elif self._is_wanted(listed.count):
            self.bins[listed.image_id] = Bin(listed.image_id, listed.count, "list", listed.group)

    def _take_image(self, image_id: str, split: str, present: dict[str, PresentImage]) -> None:
        stem = self.bins[image_id].key_stem(split)
        for key in (f"{stem}{suffix}" for suffix in SUFFIXES.values()):
            if key in present and self._is_sound(image_id, key, present[key]):
                return
        content = self.source.image(image_id)
        if content is None:
            self._leave_out(image_id, "image-missing", "the source has no such image")
            return
        try:
            facts = check_image(content, self.source.image_formats)
        except BadImage as error:
            self._leave_out(image_id, error.reason, error.detail)
        else:
            self.bins[image_id].facts = facts
            self.root.write(self.bins[image_id].key(split), content)

    def _is_sound(self, image_id: str, key: str, present: PresentImage) -> bool:
        """Takes the facts of an image in the root; False if it is damaged there, or the source has another by now."""
        at_source = self.source.image_facts(image_id)
        if at_source is None or present.is_older(at_source):
            return False
        try:
            facts = check_image(self.root.read_if_there(key) or b"", self.source.image_formats)
        except BadImage:
            return False
        if not key.endswith(facts.suffix) or present.sha256 not in (None, facts.sha256):
            return False
        self.bins[image_id].facts = facts
        return True

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


def _count_guards(splits: dict[str, str]) -> int:
    return Counter(splits.values())[GUARD]
