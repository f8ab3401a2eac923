"""The table of a root: the same bytes for the same rows, and plain words for a root that has none."""

import random
import shlex

import pyarrow
import pyarrow.parquet
import pytest

from stocktake.data.manifest import MANIFEST_KEY, SCHEMA, Manifest, ManifestError
from stocktake.storage import Folder


def row(image_id: str, count: int = 1, split: str = "train", **facts) -> dict:
    return (
        dict.fromkeys(SCHEMA.names)
        | {"image_id": image_id, "count": count, "split": split, "key": "x", "group": "g"}
        | facts
    )


def manifest_of(*rows: dict) -> Manifest:
    return Manifest(pyarrow.Table.from_pylist(list(rows), schema=SCHEMA), {"source": "s", "seed": 3})


@pytest.fixture
def root(tmp_path):
    return Folder(str(tmp_path / "root"))


def test_what_is_written_is_read(root):
    written = manifest_of(row("00242", 2), row("242", 3, "valid", width=300, sha256="ab"))
    written.write(root)
    read = Manifest.read(root)
    assert read.table.to_pylist() == written.table.to_pylist()
    assert read.origin == {"source": "s", "seed": 3}
    assert len(read.sha256) == 64


def test_the_same_rows_in_any_order_give_the_same_bytes(root, tmp_path):
    other = Folder(str(tmp_path / "other"))
    manifest_of(row("1"), row("2")).write(root)
    manifest_of(row("2"), row("1")).write(other)
    assert root.read(MANIFEST_KEY) == other.read(MANIFEST_KEY)
    manifest_of(row("2"), row("1", 4)).write(other)
    assert root.read(MANIFEST_KEY) != other.read(MANIFEST_KEY)
    assert Manifest.read(root).sha256 != Manifest.read(other).sha256


def test_a_root_without_one_says_to_run_prepare(root):
    with pytest.raises(ManifestError, match=r"scripts/prepare\.py .*root=" + root.url):
        Manifest.read(root)


def test_another_file_is_not_taken_for_one(root):
    root.write(MANIFEST_KEY, b"PAR1 and nothing else")
    with pytest.raises(ManifestError, match="not one of ours: Parquet magic bytes not found"):
        Manifest.read(root)
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"image_id": ["1"]}), buffer)
    root.write(MANIFEST_KEY, buffer.getvalue().to_pybytes())
    with pytest.raises(ManifestError, match=r"lacks the columns \['key', .*Run prepare again"):
        Manifest.read(root)


def test_a_side_and_all_three():
    manifest = manifest_of(row("1"), row("2", split="valid"), row("3", split="guard"), row("4", split="test"), row("5"))
    assert manifest.rows("train")["image_id"].to_pylist() == ["1", "5"]
    assert manifest.rows("all")["image_id"].to_pylist() == ["1", "2", "4", "5"]


def test_an_empty_side_tells_the_others():
    with pytest.raises(ManifestError, match=r"split='test' holds no image; .*'train': 2"):
        manifest_of(row("1"), row("2")).rows("test")


def test_a_count_outside_the_classes_is_named():
    manifest = manifest_of(row("1", 1), row("2", 7), row("3", 9, "valid"))
    with pytest.raises(ManifestError, match=r"\[7\] items.*data\.counts=\[1, 2\].*data\.counts=\[1, 2, 7\]"):
        manifest.rows("train", counts=[1, 2])
    assert manifest.rows("train", counts=[1, 2, 7]).num_rows == 2


def test_a_limit_draws_from_all_over_and_grows_by_adding():
    manifest = manifest_of(*(row(f"{i:05d}", 1 + i // 250) for i in range(1_000)))
    sets = [set(manifest.rows("train", limit)["image_id"].to_pylist()) for limit in (50, 200, 5_000)]
    assert [len(ids) for ids in sets] == [50, 200, 1_000]
    assert sets[0] < sets[1] < sets[2]
    limited = manifest.rows("train", 200)
    assert limited["image_id"].to_pylist() == sorted(limited["image_id"].to_pylist())
    per_count = [limited["count"].to_pylist().count(count) for count in (1, 2, 3, 4)]
    assert min(per_count) > 30


def written(root, *rows: dict, schema=SCHEMA) -> None:
    """Writes what our own class would not: a manifest that anybody may have made."""
    write_raw(root, pyarrow.Table.from_pylist(list(rows), schema=schema))


@pytest.mark.parametrize(
    "key",
    [
        "../secret.jpg",
        "/etc/passwd",
        "data/../../secret.jpg",
        "..",
        "a//b",
        "data/",
        "./a",
        "a\\b",
        "a\x1b[2Jb",
        "a\nb",
    ],
)
def test_a_key_that_leaves_the_root_is_refused(root, key):
    written(root, row("1"), row("2", key=key))
    with pytest.raises(
        ManifestError, match=r"not one of ours: row 1 \(image_id '2', key .*no way from the root"
    ) as told:
        Manifest.read(root)
    assert "\n" not in str(told.value) and "\x1b" not in str(told.value)


@pytest.mark.parametrize("key", ["data/test/1/00001.jpg", "data/test/1/..IMG 1...jpg", "data/test/1/ü[1]#?.jpg", "x"])
def test_a_key_of_any_name_is_read(root, key):
    written(root, row("2", key=key))
    assert Manifest.read(root).table["key"].to_pylist() == [key]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"image_id": None}, "no id"),
        ({"image_id": ""}, "no id"),
        ({"count": None}, "no count from 0 on"),
        ({"count": -1}, "no count from 0 on"),
        ({"split": None}, "a split that is none of train, valid, test, guard"),
        ({"split": "Train"}, "a split that is none of train, valid, test, guard"),
        ({"key": None}, "no key, though it is used"),
        ({"key": ""}, "no key, though it is used"),
        ({"sha256": "../../x"}, "a sha256 that is none"),
    ],
)
def test_a_row_that_no_prepare_writes_is_refused(root, wrong, named):
    written(root, row("1"), row("2") | wrong)
    with pytest.raises(ManifestError, match=f"not one of ours: row 1 .* has {named}"):
        Manifest.read(root)


def test_an_id_that_stands_there_twice_is_refused(root):
    written(root, row("1"), row("1"))
    with pytest.raises(ManifestError, match="an id stands there twice"):
        Manifest.read(root)


def test_columns_of_another_type_are_refused_unless_they_say_the_same(root):
    schema = SCHEMA.set(SCHEMA.get_field_index("count"), pyarrow.field("count", pyarrow.string()))
    written(root, row("1", "many"), schema=schema)
    with pytest.raises(ManifestError, match="not one of ours: has string in the column 'count', where int32"):
        Manifest.read(root)
    schema = SCHEMA.set(SCHEMA.get_field_index("count"), pyarrow.field("count", pyarrow.int64()))
    written(root, row("1", 2**40), schema=schema)
    with pytest.raises(ManifestError, match="not one of ours"):
        Manifest.read(root)
    written(root, row("1", 3), schema=schema)
    assert Manifest.read(root).table.schema.field("count").type == pyarrow.int32()


@pytest.mark.parametrize("origin", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"{}", b'{"source": 3}', b"9" * 5000])
def test_an_origin_that_is_no_object_is_refused(root, origin):
    write_raw(root, manifest_of(row("1")).table, origin)
    with pytest.raises(ManifestError, match="not one of ours"):
        Manifest.read(root)


@pytest.mark.parametrize("number", [0, -1, "abc", 2.0, True])
def test_a_limit_is_a_whole_number_from_1(number):
    """limit=-1 left out the last image in silence."""
    manifest = manifest_of(row("1"), row("2"))
    with pytest.raises(ManifestError, match=f"limit={number!r} must be a whole number, at least 1"):
        manifest.rows("train", number)


def test_what_a_root_without_one_tells_to_type_is_quoted(tmp_path):
    folder = tmp_path / "my bins [1]"
    with pytest.raises(ManifestError) as told:
        Manifest.read(Folder(str(folder)))
    assert shlex.split(str(told.value).splitlines()[-1])[-1] == f'root="{folder}"'


def test_bits_that_turned_are_no_other_numbers(root):
    """Without checksums of its pages, half of all single bits gave other counts, sides or ids without a word."""
    written = manifest_of(*(row(f"{number:05}", number % 6, sha256=f"{number:064x}") for number in range(200)))
    written.write(root)
    content, drawn = root.read(MANIFEST_KEY), random.Random(0)
    refused = 0
    for _ in range(200):
        spoilt = bytearray(content)
        spoilt[drawn.randrange(len(spoilt))] ^= 1 << drawn.randrange(8)
        root.write(MANIFEST_KEY, bytes(spoilt))
        try:
            assert Manifest.read(root).table.equals(written.table)
        except ManifestError:
            refused += 1
    assert refused > 100


def repeat(value: str, number: int) -> pyarrow.DictionaryArray:
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * number, pyarrow.int32()), [value])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"group": repeat("x" * 2**20, 1000)}, "unpacks to"),
        ({"group": pyarrow.array(["x" * 2**20] * 100)}, "unpacks to"),
        ({"group": pyarrow.array([["a"]] * 1000)}, r"list<.*> in the column 'group', where string"),
        ({"count": pyarrow.array([1.5] * 1000)}, "double in the column 'count', where int32"),
        ({"count": pyarrow.array([{"a": 1}] * 1000)}, "struct<.*> in the column 'count'"),
    ],
    ids=["one long value", "zeros", "nested", "fractions", "struct"],
)
def test_what_swells_or_is_of_another_kind_is_refused_before_it_is_unpacked(root, columns, message):
    (column,) = columns.values()
    table = manifest_of(*(row(f"{number:04}") for number in range(len(column)))).table
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    write_raw(root, table)
    assert root.size(MANIFEST_KEY) < 2**17
    allocated = pyarrow.total_allocated_bytes()
    with pytest.raises(ManifestError, match=message):
        Manifest.read(root)
    assert pyarrow.default_memory_pool().max_memory() - allocated < 2**28


def test_more_rows_than_a_file_of_that_size_can_have_are_refused(root):
    number = 4_000_000
    table = pyarrow.table(
        {name: pyarrow.nulls(number, kind) for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)}
    )
    write_raw(root, table)
    with pytest.raises(ManifestError, match="unpacks to"):
        Manifest.read(root)


def test_a_column_that_stands_there_twice_and_a_bin_without_a_block_are_refused(root):
    table = manifest_of(row("1")).table
    write_raw(root, table.append_column("count", table["count"]))
    with pytest.raises(ManifestError, match="has the column 'count' twice"):
        Manifest.read(root)
    manifest_of(row("1"), row("2", group=None)).write(root)
    with pytest.raises(ManifestError, match=r"image_id '2', .* has no group, though it is used"):
        Manifest.read(root)


def write_raw(root: Folder, table: pyarrow.Table, origin: bytes = b'{"source": "s"}') -> None:
    buffer = pyarrow.BufferOutputStream()
    with_origin = table.replace_schema_metadata({b"stocktake": origin})
    pyarrow.parquet.write_table(with_origin, buffer, compression="zstd")
    root.write(MANIFEST_KEY, buffer.getvalue().to_pybytes())
