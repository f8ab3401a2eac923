"""`<count>/<file>`: what is taken for an image, which id it gets, and what is told of the rest."""

import pytest
from labeled_images import write_class_folders

from stocktake.data.ingest.ingest import Ingest
from stocktake.data.manifest import Manifest
from stocktake.data.sources.class_folders import ClassFolders
from stocktake.data.sources.source import ListedBin, ListError
from stocktake.data.split import SplitRule
from stocktake.storage import Folder


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path / "my bins"))


def put(folder, *keys):
    for key in keys:
        folder.write(key, key.encode())


def test_the_folder_is_the_count_and_the_path_the_id(folder):
    put(folder, "3/a.jpg", "2/a.jpg", "10/IMG 1.PNG", "02/b.jpeg")
    source = ClassFolders(folder)
    assert sorted(source.listing(), key=str) == sorted(
        [
            ListedBin("3-a", 3, "3-a"),
            ListedBin("2-a", 2, "2-a"),
            ListedBin("10-IMG 1", 10, "10-IMG 1"),
            ListedBin("02-b", 2, "02-b"),
        ],
        key=str,
    )
    assert source.image("10-IMG 1") == b"10/IMG 1.PNG"
    facts = source.image_facts("3-a")
    assert facts is not None and facts["size"] == len("3/a.jpg")
    assert source.record("3-a") is None
    folder.remove("3/a.jpg")
    assert source.image("3-a") is None and source.image_facts("3-a") is None


def test_a_limit_takes_images_of_all_counts(folder):
    put(folder, *(f"{count}/{number}.jpg" for count in range(1, 6) for number in range(20)))
    listing = ClassFolders(folder).listing()
    assert {listed.count for listed in listing[:25]} == {1, 2, 3, 4, 5}
    put(folder, *(f"6/{number}.jpg" for number in range(20)))
    more = [listed for listed in ClassFolders(folder).listing() if listed.count != 6]
    assert more == listing  # what was there keeps its order


def test_what_is_passed_over_is_told_by_its_kind(folder):
    others = ["3/notes.txt", "3/._a.jpg", "3/deeper/b.jpg", "empty/c.jpg", "readme.jpg", "3/none", "99999999999/a.jpg"]
    put(folder, "3/a.jpg", *others)
    with pytest.warns(UserWarning, match="passed over") as told:
        assert [listed.image_id for listed in ClassFolders(folder).listing()] == ["3-a"]
    text = str(told[0].message)
    for part in (
        "3 outside of folders named by a count",
        "1 .txt",
        "1 hidden",
        "1 in folders below a count's",
        "1 without a suffix",
    ):
        assert part in text


def test_a_folder_without_an_image_says_how_it_is_to_be(folder):
    put(folder, "three/a.jpg")
    with pytest.raises(ListError, match=r"no <count>/<file> .*my bins; there is three/a\.jpg.*3/bin\.jpg.*\.csv"):
        ClassFolders(folder).listing()


def test_two_files_of_one_id_are_named(folder):
    put(folder, "3/a.jpg", "3/a.png")
    with pytest.raises(ListError, match=r"3/a\.jpg and 3/a\.png would both be the image '3-a'"):
        ClassFolders(folder).listing()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def ingest(folder, root, **options) -> Ingest:
    source = ClassFolders(Folder(str(folder)))
    return Ingest(source, Folder(str(root)), source.listing(), SplitRule(), **options)


def test_jpeg_and_png_arrive_as_they_were(tmp_path, root, synthetic_source):
    contents = write_class_folders(synthetic_source, tmp_path / "bins", 30)
    ingest(tmp_path / "bins", root).run()
    rows = Manifest.read(Folder(str(root))).table.to_pylist()
    assert {row["image_id"] for row in rows} == contents.keys()
    for row in rows:
        count, _ = row["image_id"].split("-")
        content = contents[row["image_id"]]
        suffix = ".png" if content.startswith(b"\x89PNG") else ".jpg"
        assert row["key"] == f"data/{row['split']}/{count}/{row['image_id']}{suffix}"
        assert (root / row["key"]).read_bytes() == content
        assert (row["count"], row["label_source"], row["num_products"]) == (int(count), "list", None)
        assert row["group"] == row["image_id"]
        assert row["split"] == SplitRule().split_of(row["image_id"], row["image_id"])
    assert {row["key"][-4:] for row in rows} == {".jpg", ".png"}


def test_typed_again_nothing_is_fetched_anew_and_another_format_takes_the_place_of_the_first(
    tmp_path, root, synthetic_source
):
    contents = write_class_folders(synthetic_source, tmp_path / "bins", 12)
    ingest(tmp_path / "bins", root).run()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("data/*/*/*")}
    ingest(tmp_path / "bins", root).run()
    assert {path: path.stat().st_mtime_ns for path in root.rglob("data/*/*/*")} == before
    image_id = next(name for name, content in contents.items() if content.startswith(b"\x89PNG"))
    path = tmp_path / "bins" / image_id.replace("-", "/")
    path.with_suffix(".png").unlink()
    path.with_suffix(".jpg").write_bytes((synthetic_source / "bin-images/00100.jpg").read_bytes())
    again = ingest(tmp_path / "bins", root)
    keys = {row["image_id"]: row["key"] for row in again.run().table.to_pylist()}
    assert keys[image_id].endswith(".jpg")
    assert [key.endswith(f"{image_id}.png") for key in again.leftovers] == [True]


def test_an_image_in_two_folders_is_left_out_once(tmp_path, root, synthetic_source):
    write_class_folders(synthetic_source, tmp_path / "bins", 12)
    one = next((tmp_path / "bins").rglob("IMG 1.jpg"))
    copy = tmp_path / "bins" / "5" / "copy.jpg"
    copy.write_bytes(one.read_bytes())
    again = ingest(tmp_path / "bins", root, max_bad_fraction=0.5)
    again.run()
    assert [row["reason"] for row in again.quarantine.rows.values()] == ["image-repeated"]
