"""Which of the sources a folder or bucket is: named by `format`, or seen from what lies there."""

from stocktake.data.sources.abid import IMAGES, RECORDS, AbidSource
from stocktake.data.sources.abid_list import LIST_KEY
from stocktake.data.sources.class_folders import ClassFolders
from stocktake.data.sources.csv import CsvSource
from stocktake.data.sources.source import COUNT, ListError, Source
from stocktake.object_stores import WEB, scheme_of
from stocktake.s3 import PUBLIC_BUCKETS, split_bucket
from stocktake.shell import override
from stocktake.storage import Folder, StorageOptions, is_local, is_s3, local_path

FORMATS = ("abid", "folders", "csv")


def open_source(url: str, options: StorageOptions, format: str | None = None, list_choice: str | None = None) -> Source:
    """Returns what bins are collected from.

    Args:
        url: A folder, or the path of a CSV.
        format: One of `FORMATS`; `None` looks.
        list_choice: Which of the bins in the public bucket's layout; see `AbidSource`.

    Raises:
        ListError: The format is none, or cannot be seen.
        FileNotFoundError: There is no such folder.
    """
    if format not in (*FORMATS, None):
        raise ListError(f"{override('format', format)} is none of {', '.join(FORMATS)}; null looks at the source.")
    if format is None:
        format = "csv" if url.lower().endswith(".csv") else "abid" if list_choice else _format_there(url, options)
    if list_choice and format != "abid":
        raise ListError(
            f"{override('list', list_choice)} is for the public bucket's layout, and {override('source', url)} is read "
            f"as format={format}. Leave list out, or type format=abid."
        )
    if format == "csv":
        return CsvSource(url, options)
    _require_folder(url)
    folder = Folder(url, options)
    return ClassFolders(folder) if format == "folders" else AbidSource(folder, list_choice)


def _format_there(url: str, options: StorageOptions) -> str:
    """Returns the format of a folder, by the names that lie directly in it."""
    is_public = is_s3(url) and split_bucket(url)[0] in PUBLIC_BUCKETS
    if is_public or scheme_of(url) in WEB:  # which cannot be listed
        return "abid"
    _require_folder(url)
    names = Folder(url, options).names()
    found = []
    if not names.isdisjoint((IMAGES, RECORDS, LIST_KEY)):
        found.append("abid")
    if any(COUNT.fullmatch(name) for name in names):
        found.append("folders")
    if len(found) == 1:
        return found[0]
    what = "both layouts" if found else "neither"
    raise ListError(
        f"{override('source', url)} holds {what}: {IMAGES}/ and {LIST_KEY} (format=abid), or folders named by a count, "
        "such as 3/bin.jpg (format=folders). Type which it is, or the path of a CSV with path,count (format=csv)."
    )


def _require_folder(url: str) -> None:
    if is_local(url) and not local_path(url).is_dir():
        raise FileNotFoundError(
            f"{override('source', url)} is no folder. Type one that holds bin-images/ and metadata/, or folders named "
            "by a count, such as 3/bin.jpg; the path of a CSV with path,count; or s3://aft-vbi-pds."
        )
