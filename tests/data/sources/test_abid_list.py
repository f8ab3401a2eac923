"""Lists of bins: the one that is shipped, a source's own, and every image."""

import json
from collections import Counter

import pytest

from stocktake.data.sources.abid_list import read_listing, task_listing
from stocktake.data.sources.source import ListError
from stocktake.storage import Folder


@pytest.fixture
def source(tmp_path):
    return Folder(str(tmp_path / "source"))


def test_the_shipped_list_is_the_tasks():
    rows = task_listing()
    assert Counter(count for _, count in rows) == {1: 1228, 2: 2299, 3: 2666, 4: 2373, 5: 1875}
    assert len({image_id for image_id, _ in rows}) == 10_441
    assert all(isinstance(image_id, str) for image_id, _ in rows)
    unpadded = [image_id for image_id, _ in rows if len(image_id) < 5]
    assert len(unpadded) == 52
    ids = {image_id for image_id, _ in rows}
    assert sum(image_id.zfill(5) in ids for image_id in unpadded) == 38  # so 242 and 00242 are two bins
    assert rows == sorted(rows)


def test_the_public_bucket_has_the_shipped_list():
    assert read_listing(Folder("s3://aft-vbi-pds")) == task_listing()


def test_a_source_has_its_own_list(source):
    source.write("file_list.json", b'{"2": ["data/metadata/00007.json", "7.json"], "1": ["data/metadata/00003.json"]}')
    assert read_listing(source) == [("00003", 1), ("00007", 2), ("7", 2)]


def test_another_list_can_be_named(source, tmp_path):
    path = tmp_path / "lists" / "mine.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"5": ["00009.json"]}))
    assert read_listing(source, str(path)) == [("00009", 5)]
    assert read_listing(source, f"file://{path}") == [("00009", 5)]


def test_a_named_list_that_is_not_there(source, tmp_path):
    with pytest.raises(ListError, match=r"lists/mine\.json"):
        read_listing(source, str(tmp_path / "lists" / "mine.json"))


def test_all_takes_every_image_and_leaves_the_count_to_its_record(source):
    for name in ("00002.jpg", "00001.jpg"):
        source.write(f"bin-images/{name}", b"x")
    assert read_listing(source, "all") == [("00001", None), ("00002", None)]


def test_all_tells_what_it_passes_over(source):
    for name in ("1.jpg", "2.JPG", "3.jpeg", "4.png", "5.png", "below/6.jpg", "readme"):
        source.write(f"bin-images/{name}", b"x")
    with pytest.warns(UserWarning, match="passed over") as told:
        assert read_listing(source, "all") == [("1", None)]
    text = str(told[0].message)
    for part in ("2 .png", "1 .JPG", "1 .jpeg", "1 in folders below it", "1 without a suffix", "<id>.jpg"):
        assert part in text


def test_ids_may_be_any_names(source):
    source.write("file_list.json", b'{"2": ["metadata/IMG 1.2.json", "\xc3\xbc.json"]}')
    assert read_listing(source) == [("IMG 1.2", 2), ("ü", 2)]


def test_a_source_without_anything_names_what_to_type(source):
    with pytest.raises(ListError, match="list=all"):
        read_listing(source)
    with pytest.raises(ListError, match=r"no bin-images/<id>\.jpg"):
        read_listing(source, "all")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"one": ["00001.json"]}',
        b'{"1": [""]}',
        b'{"1": ["a\\n.json"]}',
        '{"1": ["%s.json"]}'.replace("%s", "\u4e2d" * 90).encode(),  # 270 bytes, which no file system takes for a name
        b'{"1": ["00001.json"], "2": ["00002.json"], "1": ["00003.json"]}',
        b'{"-1": ["00001.json"]}',
        b'{" 1": ["00001.json"]}',
        b'{"+1": ["00001.json"]}',
        b'{"1_0": ["00001.json"]}',
        b'{"01": ["00001.json"]}',
        '{"\u0663": ["00001.json"]}'.encode(),
        b'{"1.0": ["00001.json"]}',
        b'{"99999999999": ["00001.json"]}',
        b"[" * 100_000,
        b'{"1": [17]}',
        b'{"1": 17}',
        b'{"1": "00001"}',
        b"\xff\xff",
    ],
)
def test_what_is_no_list_is_said_with_its_place(source, content):
    source.write("file_list.json", content)
    with pytest.raises(ListError, match=r"file_list\.json is not a list of the form"):
        read_listing(source)


def test_a_count_that_stands_there_twice_is_named(source):
    """Python's json keeps the last of two lists of one name: 13 of 27 bins were lost."""
    source.write("file_list.json", b'{"1": ["00001.json"], "2": ["00002.json"], "1": ["00003.json"]}')
    with pytest.raises(ListError, match=r"'1' stands there twice: make one list"):
        read_listing(source)
