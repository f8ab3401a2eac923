"""Drawn bins as images of somebody's own: by count in folders, or listed in a CSV; some are PNG."""

import csv
import io
import json
import pathlib
import shutil

from PIL import Image

EVERY_NTH_IS_PNG = 3


def write_image(source: pathlib.Path, number: int, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes one drawn bin as `name` with the suffix of its format, every third as PNG; returns its path."""
    drawn = source / "bin-images" / f"{number:05d}.jpg"
    path = folder / f"{name}{'.png' if number % EVERY_NTH_IS_PNG == 0 else '.jpg'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.open(drawn).save(path)
    else:
        shutil.copy(drawn, path)
    return path


def count_of(source: pathlib.Path, number: int) -> int:
    return json.loads((source / "metadata" / f"{number:05d}.json").read_text())["EXPECTED_QUANTITY"]


def write_class_folders(source: pathlib.Path, folder: pathlib.Path, num_bins: int) -> dict[str, bytes]:
    """Writes `<count>/IMG <n>.<suffix>` of the first drawn bins; returns the bytes by the ids they are to get."""
    written = {}
    for number in range(1, num_bins + 1):
        count = count_of(source, number)
        path = write_image(source, number, folder / str(count), f"IMG {number}")
        written[f"{count}-{path.stem}"] = path.read_bytes()
    return written


def write_csv(source: pathlib.Path, path: pathlib.Path, num_bins: int, num_a_group: int | None = None) -> list[dict]:
    """Writes a CSV of the first drawn bins, which lie in photos/ beside it; returns its lines.

    Args:
        num_a_group: So many bins in a row are of one group; `None` leaves the column out.
    """
    lines = []
    for number in range(1, num_bins + 1):
        image = write_image(source, number, path.parent / "photos", f"bin-{number}")
        lines.append({"path": f"photos/{image.name}", "count": str(count_of(source, number))})
        if num_a_group:
            lines[-1]["group"] = f"shelf {number // num_a_group}"
    content = io.StringIO()
    table = csv.DictWriter(content, lines[0].keys())
    table.writeheader()
    table.writerows(lines)
    path.write_text(content.getvalue())
    return lines
