"""The table of a root: the same bytes for the same rows, and plain words for a root that has none."""

import shlex

import pyarrow
import pyarrow.parquet
import pytest

from stocktake.data.manifest import MANIFEST_KEY, SCHEMA, Manifest, ManifestError
from stocktake.storage import Folder


def row(image_id: str, count: int = 1, split: str = "train", **facts) -> dict:
    return dict.fromkeys(SCHEMA.names) | {"image_id": image_id, "count": count, "split": split, "key": "x"} | facts


def manifest_of(*rows: dict) -> Manifest:
    return Manifest(pyarrow.Table.from_pylist(list(rows), schema=SCHEMA), {"seed": 3})


@pytest.fixture
def root(tmp_path):
    return Folder(str(tmp_path / "root"))


def test_what_is_written_is_read(root):
    written = manifest_of(row("00242", 2), row("242", 3, "valid", width=300, sha256="ab"))
    written.write(root)
    read = Manifest.read(root)
    assert read.table.to_pylist() == written.table.to_pylist()
    assert read.origin == {"seed": 3}
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
    with pytest.raises(ManifestError, match="not a readable Parquet file"):
        Manifest.read(root)
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"image_id": ["1"]}), buffer)
    root.write(MANIFEST_KEY, buffer.getvalue().to_pybytes())
    with pytest.raises(ManifestError, match=r"lacks \['key', .*run prepare again"):
        Manifest.read(root)


def test_a_side_and_all_three():
    manifest = manifest_of(row("1"), row("2", split="valid"), row("3", split="guard"), row("4", split="test"), row("5"))
    assert manifest.side("train")["image_id"].to_pylist() == ["1", "5"]
    assert manifest.side("all")["image_id"].to_pylist() == ["1", "2", "4", "5"]


def test_an_empty_side_tells_the_others():
    with pytest.raises(ManifestError, match=r"split='test' holds no image; .*'train': 2"):
        manifest_of(row("1"), row("2")).side("test")


def test_a_count_outside_the_classes_is_named():
    manifest = manifest_of(row("1", 1), row("2", 7), row("3", 9, "valid"))
    with pytest.raises(ManifestError, match=r"\[7\] items.*data\.counts=\[1, 2\].*data\.counts=\[1, 2, 7\]"):
        manifest.side("train", counts=[1, 2])
    assert manifest.side("train", counts=[1, 2, 7]).num_rows == 2


def test_a_limit_draws_from_all_over_and_grows_by_adding():
    manifest = manifest_of(*(row(f"{i:05d}", 1 + i // 250) for i in range(1_000)))
    sets = [set(manifest.side("train", limit)["image_id"].to_pylist()) for limit in (50, 200, 5_000)]
    assert [len(ids) for ids in sets] == [50, 200, 1_000]
    assert sets[0] < sets[1] < sets[2]
    limited = manifest.side("train", 200)
    assert limited["image_id"].to_pylist() == sorted(limited["image_id"].to_pylist())
    per_count = [limited["count"].to_pylist().count(count) for count in (1, 2, 3, 4)]
    assert min(per_count) > 30


def written(root, *rows: dict, schema=SCHEMA, origin: bytes = b"{}") -> None:
    """Writes what our own class would not: a manifest that anybody may have made."""
    buffer = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"stocktake": origin}), buffer)
    root.write(MANIFEST_KEY, buffer.getvalue().to_pybytes())


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
    with pytest.raises(ManifestError, match=r"not one of ours: .*many"):
        Manifest.read(root)
    schema = SCHEMA.set(SCHEMA.get_field_index("count"), pyarrow.field("count", pyarrow.int64()))
    written(root, row("1", 2**40), schema=schema)
    with pytest.raises(ManifestError, match="not one of ours"):
        Manifest.read(root)
    written(root, row("1", 3), schema=schema)
    assert Manifest.read(root).table.schema.field("count").type == pyarrow.int32()


@pytest.mark.parametrize("origin", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_an_origin_that_is_no_object_is_refused(root, origin):
    written(root, row("1"), origin=origin)
    with pytest.raises(ManifestError, match="not one of ours"):
        Manifest.read(root)


@pytest.mark.parametrize("number", [0, -1, "abc", 2.0, True])
def test_a_limit_is_a_whole_number_from_1(number):
    """limit=-1 left out the last image in silence."""
    manifest = manifest_of(row("1"), row("2"))
    with pytest.raises(ManifestError, match=f"limit={number!r} must be a whole number, at least 1"):
        manifest.side("train", number)


def test_what_a_root_without_one_tells_to_type_is_quoted(tmp_path):
    folder = tmp_path / "my bins [1]"
    with pytest.raises(ManifestError) as told:
        Manifest.read(Folder(str(folder)))
    assert shlex.split(str(told.value).splitlines()[-1])[-1] == f'root="{folder}"'
