"""The name that somebody who mistyped one most likely meant."""

from collections.abc import Iterable
from difflib import SequenceMatcher

LEAST_ALIKE = 0.6  # share of equal letters below which a guess would only confuse


def nearest(typed: str, names: Iterable[str]) -> str | None:
    """Returns the name that is most like what was typed, or None where none is like it.

    A key is also known by its last part: `lr` means `model.optimizer.lr`, `data.root` means `root` where that is all.
    """
    best, best_name = LEAST_ALIKE, None
    for name in sorted(names, key=lambda name: (name.count("."), name)):
        whole, last = _likeness(typed, name), 0.95 * _likeness(typed.rsplit(".")[-1], name.rsplit(".")[-1])
        if (likeness := max(whole, last)) > best:
            best, best_name = likeness, name
    return best_name


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower(), autojunk=False).ratio()
