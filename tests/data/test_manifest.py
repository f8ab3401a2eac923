"""The table of a root: the same bytes for the same rows, and plain words for a root that has none."""

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
