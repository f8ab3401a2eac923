"""`path,count[,group]`: wherever the images lie, of any name, with the group that decides their split."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from labeled_images import write_csv

from stocktake.data.ingest.ingest import Ingest
from stocktake.data.sources.csv import CsvSource
from stocktake.data.sources.source import ListedBin, ListError
from stocktake.data.split import GUARD, SplitRule
from stocktake.storage import Folder


@pytest.fixture
def table(tmp_path):
    """Returns what writes a CSV and opens it."""

    def written(content: str | bytes, name: str = "bins.csv") -> CsvSource:
        path = tmp_path / "my bins" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return CsvSource(str(path))

    return written


def test_each_line_is_an_image_with_its_count_and_group(table):
    source = table("path,count,group\na.jpg,3,shelf 1\nphotos/b.png, 0 ,\n./a.jpg,3,shelf 1\n")
    assert source.listing() == [ListedBin("a", 3, "shelf 1"), ListedBin("photos-b", 0, "photos-b")]


def test_columns_stand_in_any_order_and_spreadsheets_write_a_byte_order_mark(table):
    assert table("\ufeffCount, Path\r\n3,a.jpg\r\n").listing() == [ListedBin("a", 3, "a")]
    assert table('path,count\n"a,b.jpg",3\n').listing() == [ListedBin("a,b", 3, "a,b")]


def test_images_lie_beside_it_elsewhere_on_the_disk_or_on_the_web(table, tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    for name in ("my bins/photos/a 1.jpg", "other/b.jpg", "web/c 1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "web")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web = f"http://127.0.0.1:{server.server_address[1]}"
        lines = ["photos/a 1.jpg", "../other/b.jpg", str(tmp_path / "other/b.jpg"), f"file://{tmp_path}/other/b.jpg"]
        lines += [f"{web}/c%201.png", "gone.jpg", f"{web}/gone.jpg"]
        source = table("path,count\n" + "".join(f"{line},1\n" for line in lines))
        ids = [listed.image_id for listed in source.listing()]
        assert len(set(ids)) == len(ids) == len(lines) - 1  # a path and its file:// are one image
        contents = [source.image(image_id) for image_id in ids]
        sizes = [facts and facts["size"] for facts in map(source.image_facts, ids)]
        server.shutdown()
    assert contents == [b"my bins/photos/a 1.jpg", *[b"other/b.jpg"] * 2, b"web/c 1.png", None, None]
    assert sizes == [content and len(content) for content in contents]


def test_a_csv_and_its_images_may_be_in_a_bucket(s3):
    folder = Folder("s3://bins/mine")
    folder.write("lists/bins.csv", b"path,count\nphotos/a.jpg,3\ns3://bins/mine/b?.png,2\n")
    folder.write("lists/photos/a.jpg", b"beside")
    folder.write("b?.png", b"elsewhere")
    source = CsvSource("s3://bins/mine/lists/bins.csv")
    assert [source.image(listed.image_id) for listed in source.listing()] == [b"beside", b"elsewhere"]
    folder.write("lists/bins.csv", b"path,count\n../b.png,3\n")
    with pytest.raises(ListError, match=r"line 2: path='\.\./b\.png' is neither below the CSV's folder nor a URL"):
        CsvSource("s3://bins/mine/lists/bins.csv").listing()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "lacks path and count"),
        ("path;count\na.jpg;3\n", r"its first line is 'path;count' and lacks path and count; .*commas"),
        ("path,label\na.jpg,3\n", "lacks count"),
        ("path,count,path\na.jpg,3,b.jpg\n", "the column 'path' stands there twice"),
        ("path,count\na.jpg,three\n", "line 2: count='three' is no whole number from 0 on"),
        ("path,count\na.jpg,3\nb.jpg,-1\n", "line 3: count='-1'"),
        ("path,count\na.jpg,3.0\n", r"count='3\.0'"),
        ("path,count\na.jpg,\n", "count=''"),
        ("path,count\na.jpg,99999999999\n", "count='99999999999'"),
        ("path,count\na.jpg,\u0663\n", "count="),
        ("path,count\na.jpg\n", "line 2: it has another number of cells"),
        ("path,count\na.jpg,3,4\n", "line 2: it has another number of cells"),
        ("path,count\n,3\n", "line 2: path is empty"),
        ("path,count\na\0.jpg,3\n", r"line 2: path='a\\x00\.jpg' holds a zero byte"),
        ("path,count\nhttps://host/a.jpg?key=1,3\n", r"line 2: path='https://host/a\.jpg\?key=1' goes on after a \?"),
        ("path,count\nhttps://host,3\n", "names no image"),
        ("path,count\n", "lists no image"),
        (b"path,count\n\xff.jpg,3\n", "is not a CSV of path,count"),
        ("path,count\na.jpg,3\na.png,2\n", r"a\.jpg and a\.png would both be the image 'a'"),
    ],
)
def test_what_is_no_such_table_is_told_with_its_line(table, content, named):
    with pytest.raises(ListError, match=named):
        table(content).listing()


def test_a_csv_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ListError, match=r"source=.*none\.csv does not exist"):
        CsvSource(str(tmp_path / "none.csv")).listing()


def test_columns_that_are_not_read_are_told(table):
    """A group that was mistyped in silence would put one bin on two splits."""
    with pytest.warns(UserWarning, match="also has groups: not read.*without a column group"):
        listing = table("path,count,groups\na.jpg,3,one\n").listing()
    assert listing == table("path,count\na.jpg,3\n").listing()


def test_an_image_under_two_counts_or_groups_is_left_out(table, tmp_path, synthetic_source):
    lines = write_csv(synthetic_source, tmp_path / "my bins" / "bins.csv", 4)
    rows = [f"{line['path']},{line['count']},g{number}" for number, line in enumerate(lines)]
    rows += [f"{lines[0]['path']},9,g0", f"{lines[1]['path']},{lines[1]['count']},other"]
    source = table("path,count,group\n" + "\n".join(rows))
    ingest = Ingest(
        source, Folder(str(tmp_path / "root")), source.listing(), SplitRule(rule="none"), max_bad_fraction=1
    )
    assert ingest.run().table["image_id"].to_pylist() == ["photos-bin-3", "photos-bin-4"]
    assert {row["reason"] for row in ingest.quarantine.rows.values()} == {"list-contradiction"}
    assert "g1" in ingest.quarantine.rows["photos-bin-2"]["detail"]


def test_a_group_is_never_on_two_splits(tmp_path, synthetic_source):
    lines = write_csv(synthetic_source, tmp_path / "bins.csv", 60, num_a_group=4)
    source = CsvSource(str(tmp_path / "bins.csv"))
    manifest = Ingest(source, Folder(str(tmp_path / "root")), source.listing(), SplitRule()).run()
    groups = {f"photos-{line['path'].partition('/')[2][:-4]}": line["group"] for line in lines}
    rows = manifest.table.to_pylist()
    assert {row["image_id"]: row["group"] for row in rows} == groups
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["group"], set()).update({row["split"]} - {GUARD})
    assert all(len(found) <= 1 for found in splits.values())
    assert len(set().union(*splits.values())) == 3
    assert manifest.origin["source"] == str(tmp_path / "bins.csv")


def test_ids_of_digits_are_not_neighbors_where_groups_are_named(table, tmp_path, synthetic_source):
    (tmp_path / "my bins").mkdir()
    for number in range(1, 41):
        content = (synthetic_source / f"bin-images/{number:05d}.jpg").read_bytes()
        (tmp_path / "my bins" / f"{number:05d}.jpg").write_bytes(content)
    source = table("path,count\n" + "".join(f"{number:05d}.jpg,3\n" for number in range(1, 41)))
    manifest = Ingest(source, Folder(str(tmp_path / "root")), source.listing(), SplitRule()).run()
    assert manifest.origin["num_crossing_pairs"] == manifest.origin["num_guards"]["near a border"] == 0
    assert manifest.origin["num_images"]["test"] > 0
