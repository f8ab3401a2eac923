"""Drawn bins as a source: where they may be drawn, and whether those that are there are the ones that are asked for."""

import os
import shlex
from collections.abc import Sequence

from stocktake.data.ingest.existing import UNFINISHED_KEY
from stocktake.data.ingest.products import RECORDS_KEY
from stocktake.data.ingest.quarantine import QUARANTINE_KEY
from stocktake.data.manifest import MANIFEST_KEY, Manifest
from stocktake.data.sources.abid import AbidSource
from stocktake.data.sources.source import ListedBin
from stocktake.data.sources.synthetic import write_synthetic_source
from stocktake.shell import override
from stocktake.storage import Folder, is_local, local_path

DRAWN_SOURCE = "source"  # the drawn bucket, a folder in the root
DRAWN_NAMES = {DRAWN_SOURCE, "data", MANIFEST_KEY, RECORDS_KEY, QUARANTINE_KEY, UNFINISHED_KEY}
DEFAULT_NAME = "synthetic-"  # how the folders begin that are drawn into unasked


class RootError(ValueError):
    """A folder that no bins may be drawn into, or that holds others than are asked for."""


class DrawnSource(AbidSource):
    """Bins that are drawn when they are listed, into a folder of the public bucket's layout."""

    def __init__(self, folder: str | os.PathLike, num_bins: int, counts: Sequence[int], seed: int = 0):
        super().__init__(Folder(os.fspath(folder)))
        self.num_bins, self.counts, self.seed = num_bins, counts, seed

    def listing(self) -> list[ListedBin]:
        write_synthetic_source(local_path(self.url), self.num_bins, self.seed, self.counts)
        return super().listing()


def check_drawing_location(root: Folder, draw: bool | None, num_bins: int) -> None:
    """Refuses to draw into a folder that holds other things, or that may have been mistyped.

    Args:
        draw: `None` allows folders whose name begins as the default's does.

    Raises:
        RootError: There is no dataset, and none may be drawn there.
    """
    if root.exists(MANIFEST_KEY):
        return
    typed = override("data.root", root.url)
    if not is_local(root.url):
        raise RootError(f"There is no {MANIFEST_KEY} in {typed}, and bins are drawn on this machine's disk only.")
    path = local_path(root.url)
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if names - DRAWN_NAMES or (names and DRAWN_SOURCE not in names):
        raise RootError(
            f"There is no {MANIFEST_KEY} in {typed}, and it holds other things, such as {min(names)}: no bins are "
            "drawn there. Type the folder of a dataset, or a new one with data.draw=true."
        )
    if draw or (draw is None and path.name.startswith(DEFAULT_NAME)):
        return
    raise RootError(
        f"There is no dataset in {typed}. To train on collected bins, type the folder that scripts/prepare.py made; to "
        f"draw {num_bins:,} bins into this one, add data.draw=true."
    )


def check_drawn(root: Folder, manifest: Manifest, num_bins: int, counts: Sequence[int]) -> None:
    """Refuses drawn bins that are of another number, or of other counts, than are asked for.

    A root that was collected from elsewhere is left alone.

    Raises:
        RootError: Naming what is there and what to type.
    """
    origin = manifest.origin
    source = local_path(root.url) / DRAWN_SOURCE
    if not is_local(root.url) or not (origin.get("source") == str(source) or (source / "file_list.json").exists()):
        return
    there = manifest.table.num_rows + origin.get("num_quarantined", 0)
    counts_there = sorted(manifest.table["count"].unique().to_pylist())
    if there != num_bins or counts_there != sorted(set(counts[:num_bins])):
        raise RootError(
            f"{override('data.root', root.url)} holds {there:,} drawn bins with {counts_there} items, and {num_bins:,} "
            f"with {sorted(counts)} are asked for. Type data.num_bins={there} {override('data.counts', counts_there)}, "
            "or another data.root with data.draw=true, or remove this one: "
            f"rm -r {shlex.quote(str(local_path(root.url)))}"
        )
