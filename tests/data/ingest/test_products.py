"""What is in each bin: handed in in any order, written in the manifest's, and read for the asked bins alone."""

import io
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktake.data.ingest import products as products_module
from stocktake.data.ingest.ingest import Ingest
from stocktake.data.ingest.products import RECORDS_KEY, GatheredProducts, ProductsError, read_products
from stocktake.data.manifest import Manifest
from stocktake.data.sources.abid import AbidSource
from stocktake.data.sources.abid_records import Product, parse_record
from stocktake.data.split import SplitRule
from stocktake.storage import Folder, StorageError

CUP, PEN = Product("B01", "a cup", 2), Product("B02", "a pen", 1)


class Memory(Folder):
    """Keeps what is written where a test can look at it."""

    def __init__(self):
        super().__init__("/nowhere")
        self.objects: dict[str, bytes] = {}

    def write(self, key, content):
        self.objects[key] = content

    def read(self, key):
        return self.objects[key]


def written(bins, image_ids=None, root=None) -> Folder:
    """Returns a root whose records.parquet holds the (image id, products) in `bins`."""
    root = root or Memory()
    with GatheredProducts() as gathered:
        for image_id, products in bins:
            gathered.add(image_id, products)
        gathered.write(root, [image_id for image_id, _ in bins] if image_ids is None else image_ids)
    return root


def test_rows_stand_in_the_manifests_order_and_in_the_records_within_a_bin():
    bins = [("9", [PEN]), ("00242", [CUP, PEN]), ("10", []), ("242", [PEN, CUP]), ("00001", [CUP])]
    content = written(bins, {"00242", "242", "10", "9"}).objects[RECORDS_KEY]
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    assert [str(column.type) for column in table.schema] == ["string", "string", "string", "int32"]
    assert table.to_pylist() == [
        {"image_id": "00242", "name": "a cup", "asin": "B01", "quantity": 2},
        {"image_id": "00242", "name": "a pen", "asin": "B02", "quantity": 1},
        {"image_id": "242", "name": "a pen", "asin": "B02", "quantity": 1},
        {"image_id": "242", "name": "a cup", "asin": "B01", "quantity": 2},
        {"image_id": "9", "name": "a pen", "asin": "B02", "quantity": 1},
    ]


def test_only_the_asked_bins_are_read():
    root = written([("1", [CUP]), ("2", [PEN, CUP]), ("3", [])])
    assert read_products(root, ["3", "2", "unknown"]) == {"3": [], "2": [PEN, CUP], "unknown": []}
    assert read_products(root, []) == {}


def test_no_products_at_all_are_a_readable_file():
    assert read_products(written([("1", [])]), {"1"}) == {"1": []}


utf8 = st.text(st.characters(exclude_categories=["Cs"]))
anything = st.builds(Product, utf8, st.none() | utf8.filter(bool), st.integers(0, 2**31 - 1))
some_bins = st.dictionaries(st.text("0123456789", min_size=1, max_size=3), st.lists(anything, max_size=3), max_size=8)


@settings(deadline=None)  # each example opens databases on a disk that others use too
@given(some_bins, st.randoms())
def test_any_order_gives_the_same_bytes_and_what_is_read_is_what_was_written(bins, rng):
    shuffled = rng.sample(list(bins.items()), len(bins))
    root = written(shuffled)
    assert root.objects == written(sorted(bins.items())).objects
    assert read_products(root, bins) == bins


@settings(deadline=None)
@given(st.text(st.characters()), st.text(st.characters()))
def test_a_name_that_json_may_hold_and_utf8_may_not_is_spelt_out(asin, name):
    record = json.dumps({"BIN_FCSKU_DATA": {"k": {"asin": asin, "name": name, "quantity": 1}}, "EXPECTED_QUANTITY": 1})
    read = read_products(written([("1", parse_record(record.encode()).products)]), {"1"})["1"]
    escaped = ["".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text) for text in (asin, name)]
    assert read == [Product(escaped[0] or "k", escaped[1] or None, 1)]


def test_more_rows_than_are_held_at_once_from_many_threads(monkeypatch):
    monkeypatch.setattr(products_module, "ROWS_PER_GROUP", 7)
    bins = [(f"{i:04d}", [Product(f"B{i}", None, i), PEN]) for i in range(500)]
    shuffled = random.Random(0).sample(bins, len(bins))
    root = Memory()
    with GatheredProducts() as gathered:
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda item: gathered.add(*item), shuffled))
        gathered.write(root, dict(bins).keys() - {"0003"})
    file = pyarrow.parquet.ParquetFile(io.BytesIO(root.objects[RECORDS_KEY]))
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert sizes == [7] * 142 + [4]
    assert read_products(root, dict(bins)) == dict(bins) | {"0003": []}


def test_a_full_disk_is_told_with_the_bin_and_the_cure():
    with GatheredProducts() as gathered:
        gathered._database.execute("PRAGMA max_page_count = 8")
        with pytest.raises(StorageError, match=r"bin 00242 for records\.parquet: .*full.*SQLITE_TMPDIR"):
            gathered.add("00242", [CUP] * 5_000)


def test_a_root_of_an_earlier_version_has_none(tmp_path):
    assert read_products(Folder(str(tmp_path)), ["00001"]) is None


@pytest.mark.parametrize("spoil", ["not parquet", "cut off", "other columns", "other types", "nulls"])
def test_another_file_says_to_run_prepare(tmp_path, spoil):
    root = written([("1", [CUP])], root=Folder(str(tmp_path)))
    content = root.read(RECORDS_KEY)
    other = io.BytesIO()
    rows = {
        "other types": {"image_id": ["1"], "name": ["Cup"], "asin": ["B0"], "quantity": ["many"]},
        "nulls": {"image_id": ["1"], "name": ["Cup"], "asin": ["B0"], "quantity": pyarrow.nulls(1, pyarrow.int32())},
    }
    pyarrow.parquet.write_table(pyarrow.table(rows.get(spoil, {"image_id": ["1"]})), other)
    root.write(RECORDS_KEY, {"not parquet": b"PAR1", "cut off": content[:-9]}.get(spoil, other.getvalue()))
    with pytest.raises(ProductsError, match=r"not readable .*scripts/prepare\.py root="):
        read_products(root, ["1"])


def test_in_s3_it_is_the_same_file(s3, synthetic_source, synthetic_root):
    source, root = AbidSource(Folder(str(synthetic_source))), Folder("s3://bins/root")
    table = Ingest(source, root, source.listing(), SplitRule(block=1)).run().table
    assert root.read(RECORDS_KEY) == (synthetic_root / RECORDS_KEY).read_bytes()
    products = read_products(root, table["image_id"].to_pylist())
    assert [len(held) for held in products.values()] == table["num_products"].to_pylist()
    assert [sum(product.quantity for product in held) for held in products.values()] == table["count"].to_pylist()
    assert read_products(Folder("s3://bins/elsewhere"), ["00001"]) is None


@pytest.mark.parametrize("variable", ["ABID_ROOT", "ABID_ORIGINAL_ROOT"])
def test_real_bins_hold_what_their_records_expect(variable, tmp_path):
    """Every twentieth bin; the records are read anew, with nothing but json."""
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: it is the path of a folder of real bins with bin-images/ and metadata/")
    source, root = AbidSource(Folder(os.environ[variable])), Folder(str(tmp_path))
    Ingest(source, root, source.listing()[::20], SplitRule(), max_bad_fraction=0.05).run()
    table = Manifest.read(root).table
    products = read_products(root, table["image_id"].to_pylist())
    assert len(products) > 20 and sum(map(len, products.values())) > 40
    for row in table.to_pylist():
        held = products[row["image_id"]]
        if row["label_source"] == "list":
            assert held == [] and not source.folder.exists(f"metadata/{row['image_id']}.json")
            continue
        record = json.loads(source.folder.read(f"metadata/{row['image_id']}.json"))
        assert sum(product.quantity for product in held) == record["EXPECTED_QUANTITY"] == row["count"]
        items = record["BIN_FCSKU_DATA"].values()
        assert held == [
            Product(item["asin"], item["normalizedName"] or item["name"], item["quantity"]) for item in items
        ]
        assert len(held) == row["num_products"]
