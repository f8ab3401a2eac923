"""What the records say is in each bin, `records.parquet`: one row for each product of a bin, in the manifest's order.

It lies beside the manifest, which stays the one truth about which bins there are; a bin whose record is missing has no
rows. Format: Apache Parquet, https://parquet.apache.org/docs/file-format/.
"""

import io
import sqlite3
import threading
from collections.abc import Collection, Iterable
from itertools import islice

import pyarrow
import pyarrow.parquet

from stocktake.data.parquet import compute, read_batches
from stocktake.data.sources.abid_records import Product
from stocktake.shell import override
from stocktake.storage import Folder, StorageError

RECORDS_KEY = "records.parquet"
SCHEMA = pyarrow.schema(
    {
        "image_id": pyarrow.string(),
        "name": pyarrow.string(),  # null where the record has none
        "asin": pyarrow.string(),
        "quantity": pyarrow.int32(),
    }
)
ROWS_PER_GROUP = 2**16  # what is held in memory at once, here and in the reader: some 8 MiB


class ProductsError(ValueError):
    """A records.parquet that cannot be read."""


class GatheredProducts:
    """Products of bins that come in any order, kept out of memory until they are written in the order of the ids.

    They wait in SQLite's private temporary database, which goes to disk when it outgrows its cache of 2 MiB and is
    gone when it is closed: https://www.sqlite.org/inmemorydb.html#temp_db.
    """

    def __init__(self):
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.execute(
            "CREATE TABLE products (image_id TEXT, position INTEGER, name TEXT, asin TEXT, quantity INTEGER, "
            "PRIMARY KEY (image_id, position)) WITHOUT ROWID"
        )
        self._database.execute("PRAGMA journal_mode = OFF")  # it is one transaction that is never rolled back
        self._turn = threading.Lock()

    def __enter__(self) -> "GatheredProducts":
        return self

    def __exit__(self, *_) -> None:
        self._database.close()

    def add(self, image_id: str, products: Iterable[Product]) -> None:
        """Takes the products of one bin, from any thread; their order within the bin is kept.

        Raises:
            StorageError: There is no room for them in the folder for temporary files.
        """
        rows = [
            (image_id, position, product.name and _encodable(product.name), _encodable(product.asin), product.quantity)
            for position, product in enumerate(products)
        ]
        try:
            with self._turn:
                self._database.executemany("INSERT INTO products VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"Could not keep the products of bin {image_id} for {RECORDS_KEY}: {error}. They take some 0.3 KiB a "
                "bin on this machine's disk: free some there, or name another folder with SQLITE_TMPDIR=<folder>."
            ) from error

    def write(self, root: Folder, image_ids: Collection[str]) -> None:
        """Writes the rows of those bins that are among `image_ids`; the same rows give the same bytes.

        Raises:
            StorageError: The root could not be written to.
        """
        rows_in_order = self._database.execute(
            "SELECT image_id, name, asin, quantity FROM products ORDER BY image_id, position"
        )
        kept = (row for row in rows_in_order if row[0] in image_ids)
        buffer = io.BytesIO()
        with pyarrow.parquet.ParquetWriter(buffer, SCHEMA, compression="zstd", write_page_checksum=True) as file:
            while rows := list(islice(kept, ROWS_PER_GROUP)):
                columns = zip(*rows, strict=True)
                arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
                file.write_table(pyarrow.Table.from_arrays(arrays, schema=SCHEMA))
        root.write(RECORDS_KEY, buffer.getvalue())


def read_products(root: Folder, image_ids: Collection[str]) -> dict[str, list[Product]] | None:
    """Returns the products of each of the bins, in the order of its record; `None` if the root has no records.parquet.

    A root that was prepared before there was such a file has none. A bin that is empty, whose record is missing, or
    that the root does not hold has an empty list; the manifest's `num_products` tells the first two apart.

    Raises:
        ProductsError: The file is not one of ours; the message says what to type.
        StorageError: It could not be read within the retry budget.
    """
    try:
        content = root.read(RECORDS_KEY)
    except FileNotFoundError:
        return None
    products: dict[str, list[Product]] = {image_id: [] for image_id in image_ids}
    wanted = pyarrow.array(list(products), pyarrow.string())
    try:
        for batch in read_batches(content, SCHEMA):
            if any(batch[name].null_count for name in ("image_id", "asin", "quantity")):
                raise ValueError("a product without an id, an asin or a quantity")
            rows = batch.filter(compute.is_in(batch["image_id"], wanted))
            for row in rows.to_pylist():
                products[row["image_id"]].append(Product(row["asin"], row["name"], row["quantity"]))
    except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:
        raise ProductsError(
            f"{RECORDS_KEY} in {root.url} is not readable ({error}). "
            f"Run scripts/prepare.py {override('root', root.url)} again."
        ) from None
    return products


def _encodable(text: str) -> str:
    """Spells out what JSON may hold and UTF-8 may not: half a surrogate pair becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode()
