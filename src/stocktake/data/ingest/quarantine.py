"""What was left out of a dataset and why: `quarantine.jsonl`, one JSON object a line, in the order of the ids."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from stocktake.storage import Folder

QUARANTINE_KEY = "quarantine.jsonl"


class TooManyBad(ValueError):
    """More bins had to be left out than `max_bad_fraction` allows."""


def known_bad_ids(known_bad: Iterable[str]) -> frozenset[str]:
    """Returns the ids that a person found useless.

    Raises:
        ValueError: They are no list of strings.
    """
    example = "known_bad='[\"101047\"]'"
    if isinstance(known_bad, str) or not isinstance(known_bad, Iterable):
        raise ValueError(f"known_bad={known_bad!r} must be a list of ids, such as {example}.")
    ids = frozenset(known_bad)
    if numbers := [image_id for image_id in ids if not isinstance(image_id, str)]:
        raise ValueError(
            f"known_bad={numbers} are no strings, and ids are (242 and 00242 are two bins); quote each: {example}."
        )
    return ids


@dataclass
class Quarantine:
    rows: dict[str, dict[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, image_id: str, reason: str, detail: str) -> None:
        """Notes a bin; `reason` is a short fixed word."""
        detail = re.sub(r" object at 0x[0-9a-f]+", "", detail)  # two runs of the same give the same bytes
        self.rows[image_id] = {"image_id": image_id, "reason": reason, "detail": detail}

    def write(self, root: Folder) -> None:
        lines = [json.dumps(row) + "\n" for _, row in sorted(self.rows.items())]
        root.write(QUARANTINE_KEY, "".join(lines).encode())

    def check(self, root: Folder, num_listed: int, max_bad_fraction: float) -> None:
        """Raises TooManyBad if more than `max_bad_fraction` of the listed bins are in here."""
        # Bins that a person named as bad were looked at: they say nothing about the source's health.
        reasons = Counter(row["reason"] for row in self.rows.values() if row["reason"] != "known-bad")
        fraction = reasons.total() / max(1, num_listed)
        if fraction > max_bad_fraction:
            enough = math.ceil(100 * fraction) / 100
            summary = "; ".join(map(self._summary, reasons.most_common()))
            raise TooManyBad(
                f"{reasons.total()} of {num_listed} bins ({fraction:.1%}) had to be left out, more than "
                f"max_bad_fraction={max_bad_fraction:g}: {summary}. Look at "
                f"{root.url}/{QUARANTINE_KEY}; if that is as it should be, type max_bad_fraction={enough:g}."
            )

    def _summary(self, reason: tuple[str, int]) -> str:
        """Returns `image-missing 3 times, such as 00007 (the source has no such image)`."""
        name, number = reason
        first = min((row for row in self.rows.values() if row["reason"] == name), key=lambda row: row["image_id"])
        return f"{name} {number} times, such as {first['image_id']} ({first['detail']})"
