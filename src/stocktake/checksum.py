"""A checksum of figures within the JSON file that holds them: one turned bit makes another number of a digit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "metrics_sha256"  # older files lack it


def sealed(figures: Mapping[str, Any], seal: str = SEAL) -> dict[str, Any]:
    """Returns what a file is to hold: the figures, and last, under the key `seal`, the checksum of them."""
    return {**figures, seal: _digest(figures, seal)}


def check_seal(figures: Mapping[str, Any], seal: str = SEAL) -> None:
    """
    Raises:
        ValueError: They are others than when they were written; the message goes on from the file's name.
    """
    if seal in figures and figures[seal] != _digest(figures, seal):
        raise ValueError(f"holds other figures than when it was written ({seal} is not theirs): damaged, or edited")


def _digest(figures: Mapping[str, Any], seal: str) -> str:
    plain = json.loads(json.dumps({key: value for key, value in figures.items() if key != seal}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
