"""A checksum of figures within the JSON file that holds them: one turned bit makes another number of a digit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "metrics_sha256"  # older files lack it


def sealed(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a file is to hold: the figures, and last the checksum of them."""
    return {**figures, SEAL: _digest(figures)}


def check_seal(figures: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: They are others than when they were written; the message goes on from the file's name.
    """
    if SEAL in figures and figures[SEAL] != _digest(figures):
        raise ValueError(f"holds other figures than when it was written ({SEAL} is not theirs): damaged, or edited")


def _digest(figures: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps({key: value for key, value in figures.items() if key != SEAL}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
