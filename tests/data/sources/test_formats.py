"""Which source a place is: what is typed, or else what lies there."""

import pytest

from stocktake.data.sources.abid import AbidSource
from stocktake.data.sources.class_folders import ClassFolders
from stocktake.data.sources.csv import CsvSource
from stocktake.data.sources.formats import open_source
from stocktake.data.sources.source import ListError
from stocktake.storage import Folder, StorageOptions

OPTIONS = StorageOptions()


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (["bin-images/1.jpg"], AbidSource),
        (["file_list.json", "readme.md"], AbidSource),
        (["3/a.jpg", "readme.md"], ClassFolders),
    ],
)
def test_a_folder_is_what_lies_in_it(tmp_path, keys, kind):
    for key in keys:
        Folder(str(tmp_path / "bins")).write(key, b"")
    source = open_source(str(tmp_path / "bins"), OPTIONS)
    assert type(source) is kind
    assert source.url == str(tmp_path / "bins")


def test_a_csv_is_known_by_its_name(tmp_path):
    assert isinstance(open_source("https://host/bins.CSV", OPTIONS), CsvSource)
    assert isinstance(open_source("bins.txt", OPTIONS, "csv"), CsvSource)


def test_what_cannot_be_listed_or_has_a_list_is_the_buckets_layout(tmp_path):
    assert isinstance(open_source("s3://aft-vbi-pds", OPTIONS), AbidSource)
    assert isinstance(open_source("https://aft-vbi-pds.s3.amazonaws.com", OPTIONS), AbidSource)
    assert isinstance(open_source(str(tmp_path), OPTIONS, None, "all"), AbidSource)


def test_a_folder_of_class_folders_in_a_bucket(s3):
    Folder("s3://bins/mine").write("3/a.jpg", b"x")
    assert isinstance(open_source("s3://bins/mine", OPTIONS), ClassFolders)


@pytest.mark.parametrize(("keys", "what"), [(["3/a.jpg", "bin-images/1.jpg"], "both layouts"), (["a.jpg"], "neither")])
def test_what_is_ambiguous_says_what_to_type(tmp_path, keys, what):
    for key in keys:
        Folder(str(tmp_path)).write(key, b"")
    with pytest.raises(ListError, match=rf"holds {what}: .*format=abid.*format=folders.*format=csv"):
        open_source(str(tmp_path), OPTIONS)
    assert isinstance(open_source(str(tmp_path), OPTIONS, "folders"), ClassFolders)


def test_a_list_belongs_to_the_buckets_layout_alone(tmp_path):
    with pytest.raises(ListError, match=r"list=all is for the public bucket's layout.*format=folders.*Leave list out"):
        open_source(str(tmp_path), OPTIONS, "folders", "all")
    with pytest.raises(ListError, match="format=png is none of abid, folders, csv"):
        open_source(str(tmp_path), OPTIONS, "png")


@pytest.mark.parametrize("form", [None, "abid", "folders"])
def test_a_folder_that_is_not_there_is_named(form):
    with pytest.raises(FileNotFoundError, match=r"source=/no/such is no folder.*bin-images/.*3/bin\.jpg.*path,count"):
        open_source("/no/such", OPTIONS, form)
