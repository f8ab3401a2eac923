"""The dataset's table, `manifest.parquet`: the one truth about which images there are.

One row an image, sorted by id, whether it is used or set aside; the file's metadata says where the images came from
and how they were split. Format: Apache Parquet, https://parquet.apache.org/docs/file-format/.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow

from stocktake.data.parquet import compute, open_file, read_batches, write_table
from stocktake.data.split import GUARD, SPLITS
from stocktake.seeding import derive_seed
from stocktake.shell import command
from stocktake.storage import Folder

MANIFEST_KEY = "manifest.parquet"
ORIGIN_SHA256 = b"stocktake_sha256"  # beside the origin, since no page's checksum holds it; older files lack it
ROWS_PER_GROUP = 2**13  # what is encoded at once
# A key is the way from the root to an image: no way out of it, none from elsewhere, nothing that a terminal obeys.
WRONG_KEY = r"(^|/)\.{0,2}(/|$)|[\\\x00-\x1f]"
SCHEMA = pyarrow.schema(
    {
        "image_id": pyarrow.string(),  # never an int: 242 and 00242 are different bins
        "key": pyarrow.string(),  # where the image lies under the root; empty for one that was set aside
        "count": pyarrow.int32(),
        "split": pyarrow.string(),
        "group": pyarrow.string(),  # the block of neighboring ids, the unit of the bootstrap
        "width": pyarrow.int32(),  # pixels
        "height": pyarrow.int32(),
        "bytes": pyarrow.int64(),
        "sha256": pyarrow.string(),
        "label_source": pyarrow.string(),  # record, or list where the record is missing
        "num_products": pyarrow.int32(),  # distinct products in the record; null without one
    }
)


class ManifestError(ValueError):
    """A dataset root without a manifest, or with one that does not fit."""


@dataclass(frozen=True)
class Manifest:
    """The table and what the file's metadata says of its making (seed, source, split rule, images in each split)."""

    table: pyarrow.Table
    origin: dict[str, Any]
    sha256: str = ""

    @classmethod
    def read(cls, root: Folder) -> "Manifest":
        """Reads a root's manifest.

        Raises:
            ManifestError: There is none, or it is not one of ours.
        """
        try:
            content = root.read(MANIFEST_KEY)
        except FileNotFoundError:
            prepare = command("scripts/prepare.py", {"source": "s3://aft-vbi-pds", "root": root.url})
            raise ManifestError(
                f"There is no {MANIFEST_KEY} in {root.url}, so it is no dataset. Type another folder, or make one "
                f"of it, of Amazon's bins or of a source of your own:\n  {prepare}"
            ) from None
        try:
            with open_file(content, SCHEMA) as file:
                origin = _read_origin(file.schema_arrow.metadata or {})
            table = pyarrow.Table.from_batches(read_batches(content, SCHEMA), SCHEMA).combine_chunks()
            _check_rows(table)
        except (pyarrow.ArrowException, OSError, ValueError, RecursionError) as error:
            reason = str(error).rstrip(".")
            raise ManifestError(
                f"{MANIFEST_KEY} in {root.url} is not one of ours: {reason}. Run prepare again."
            ) from None
        return cls(table, origin, hashlib.sha256(content).hexdigest())

    def write(self, root: Folder) -> None:
        """Writes the table with its origin; the same rows and origin give the same bytes."""
        table = self.table.cast(SCHEMA)
        image_ids = table["image_id"].combine_chunks()
        if not compute.all(compute.less_equal(image_ids[:-1], image_ids[1:])).as_py():
            table = table.sort_by("image_id")
        origin = json.dumps(self.origin, sort_keys=True).encode()
        metadata = {b"stocktake": origin, ORIGIN_SHA256: hashlib.sha256(origin).hexdigest().encode()}
        buffer = pyarrow.BufferOutputStream()
        write_table(table.replace_schema_metadata(metadata), buffer, row_group_size=ROWS_PER_GROUP, compression="zstd")
        root.write(MANIFEST_KEY, buffer.getvalue().to_pybytes())

    def rows(
        self,
        split: str,
        limit: int | None = None,
        counts: list[int] | None = None,
        num_train_bins: int | None = None,
        seed: int = 0,
    ) -> pyarrow.Table:
        """Returns the rows of `train`, `valid`, `test` or of `all` three, in the order of their ids.

        Args:
            limit: At most so many images, drawn by a hash of the id so that they are of all counts.
            counts: The counts that the model knows.
            num_train_bins: At most so many bins of `train`, whole blocks of neighbors; see `draw_blocks`.
            seed: Another seed draws other blocks.

        Raises:
            ManifestError: The split is empty, holds a count that the model does not know, or fewer bins than
                `num_train_bins`; or `limit` is below 1.
        """
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ManifestError(f"limit={limit!r} must be a whole number, at least 1, or null for all.")
        wanted = list(SPLITS) if split == "all" else [split]
        column = self.table["split"]
        rows = self.table.filter(compute.is_in(column, pyarrow.array(wanted)))
        if rows.num_rows == 0:
            sizes = {name: compute.sum(compute.equal(column, name)).as_py() for name in (*SPLITS, GUARD)}
            raise ManifestError(
                f"split={split!r} holds no image; the manifest has {sizes}. Type one that is not empty."
            )
        if counts is not None:
            unknown = sorted(set(rows["count"].to_pylist()) - set(counts))
            if unknown:
                raise ManifestError(
                    f"Split {split!r} holds bins with {unknown} items, and the model knows data.counts={counts}. "
                    f"Prepare with counts={counts}, or train with data.counts={sorted({*counts, *unknown})}."
                )
        if split == "train" and num_train_bins is not None:
            rows = draw_blocks(rows, num_train_bins, seed)
        if limit is not None and limit < rows.num_rows:
            digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in rows["image_id"].to_pylist()]
            order = sorted(range(rows.num_rows), key=digests.__getitem__)
            rows = rows.take(numpy.sort(order[:limit]))
        return rows


def _read_origin(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """
    Raises:
        ValueError: The file's metadata has no origin such as prepare writes.
    """
    content = metadata.get(b"stocktake", b"null")
    digest = hashlib.sha256(content).hexdigest().encode()
    if metadata.get(ORIGIN_SHA256, digest) != digest:
        raise ValueError("its origin is damaged")
    origin = json.loads(content)
    if not isinstance(origin, dict) or not isinstance(origin.get("source"), str):
        raise ValueError("it does not say in its metadata where its images came from")
    return origin


def _check_rows(table: pyarrow.Table) -> None:
    """Refuses rows that no prepare of ours writes: the file may be anybody's, and its keys are opened.

    Raises:
        ValueError: Naming the first such row.
    """
    is_used = compute.is_in(table["split"], pyarrow.array(SPLITS))
    wrong_rows = {
        "no id": compute.equal(compute.fill_null(table["image_id"], ""), ""),
        "no count from 0 on": compute.less(compute.fill_null(table["count"], -1), 0),
        f"a split that is none of {', '.join((*SPLITS, GUARD))}": compute.invert(
            compute.is_in(table["split"], pyarrow.array((*SPLITS, GUARD)))
        ),
        "no group, though it is used": compute.and_(is_used, compute.equal(compute.fill_null(table["group"], ""), "")),
        "no key, though it is used": compute.and_(is_used, compute.equal(compute.fill_null(table["key"], ""), "")),
        "a key that is no way from the root to an image": compute.and_(
            compute.not_equal(compute.fill_null(table["key"], ""), ""),
            compute.match_substring_regex(compute.fill_null(table["key"], "x"), WRONG_KEY),
        ),
        "a sha256 that is none": compute.invert(
            compute.match_substring_regex(compute.fill_null(table["sha256"], "0"), "^[0-9a-f]{1,64}$")
        ),
    }
    for what, wrong in wrong_rows.items():
        if (row := compute.index(wrong, True).as_py()) >= 0:
            key = (table["key"][row].as_py() or "")[:80]
            raise ValueError(f"row {row} (image_id {table['image_id'][row].as_py()!r}, key {key!r}) has {what}")
    if compute.count_distinct(table["image_id"]).as_py() < table.num_rows:
        raise ValueError("an id stands there twice")


def draw_blocks(rows: pyarrow.Table, num_train_bins: int, seed: int) -> pyarrow.Table:
    """Returns the rows of the first blocks that hold at most `num_train_bins` bins, in the order of `rows`.

    The blocks stand in the order of a hash of (seed, group). So what is drawn for fewer bins is part of what is drawn
    for more, whatever the order of the rows, and near-identical neighbors come or go together.

    Raises:
        ManifestError: There are fewer bins than that, or the first block alone has more.
    """
    if num_train_bins > rows.num_rows:
        raise ManifestError(
            f"data.num_train_bins={num_train_bins}, but there are {rows.num_rows} training bins: type "
            f"data.num_train_bins={rows.num_rows} or fewer, or data.num_train_bins=null for all of them."
        )
    blocks = rows["group"].value_counts().to_pylist()
    blocks.sort(key=lambda block: (derive_seed("training bins", seed, block["values"]), block["values"]))
    ends = numpy.cumsum([block["counts"] for block in blocks])
    drawn = [block["values"] for block in blocks[: numpy.searchsorted(ends, num_train_bins, side="right")]]
    if not drawn:
        raise ManifestError(
            f"data.num_train_bins={num_train_bins} does not hold one block of neighboring bins, which come or go "
            f"together: the first that seed={seed} draws has {ends[0]}. Type data.num_train_bins={ends[0]} or more."
        )
    return rows.filter(compute.is_in(rows["group"], pyarrow.array(drawn)))
