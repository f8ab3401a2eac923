"""What every source shares: ids made of paths, and lists that are narrowed."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.data.sources.source import (
    MAX_ID_BYTES,
    ListedBin,
    ListError,
    by_id,
    check_counts,
    image_id_of,
    is_id,
    narrowed,
    refuse_equal_ids,
)


def bins(*rows) -> list[ListedBin]:
    return [ListedBin(*row) for row in rows]


def test_a_list_is_narrowed_to_counts_and_then_to_a_limit():
    listing = bins(("1", 1), ("2", 2), ("3", None), ("4", 3), ("5", 2))
    assert narrowed(listing) == listing
    assert narrowed(listing, [2]) == bins(("2", 2), ("3", None), ("5", 2))
    assert narrowed(listing, [2], 2) == bins(("2", 2), ("3", None))


@pytest.mark.parametrize("limit", [0, -50, "abc", 2.0, True])
def test_a_limit_is_a_whole_number_from_1(limit):
    with pytest.raises(ListError, match=f"limit={limit!r} must be a whole number, at least 1"):
        narrowed(bins(("1", 1)), limit=limit)


@pytest.mark.parametrize("counts", [[], 3, "3", [1, 1], [1.0], [-1], [True], ["1"], [None], {1: 2}, [2**31]])
def test_counts_are_different_whole_numbers(counts):
    with pytest.raises(ListError, match=r"^data\.counts=.*must be a list of different whole numbers from 0 on"):
        check_counts(counts, "data.counts")


def test_counts_that_no_listed_bin_has_are_told():
    with pytest.raises(ListError, match=r"counts=\[7\]: none of the 3 listed bins.*\{1: 2, 4: 1\}"):
        narrowed(bins(("1", 1), ("2", 1), ("3", 4)), [7])
    with pytest.raises(ListError, match="names no bin"):
        narrowed([])


def test_an_id_under_two_counts_is_seen():
    claims = dict(by_id(bins(("00001", 1), ("00002", 2), ("00001", 3), ("00002", 2))))
    assert claims == {"00001": bins(("00001", 1), ("00001", 3)), "00002": bins(("00002", 2))}


@pytest.mark.parametrize(
    ("path", "image_id"),
    [
        ("3/IMG_1.jpg", "3-IMG_1"),
        ("3/IMG 1.PNG", "3-IMG 1"),
        ("00123.jpeg", "00123"),
        ("photos/a.b.png", "photos-a.b"),
        ("ü/写真.jpg", "ü-写真"),
        ("no suffix", "no suffix"),
    ],
)
def test_an_id_is_the_path_where_that_is_a_name_of_a_file(path, image_id):
    assert image_id_of(path) == image_id


@pytest.mark.parametrize(
    "path",
    [
        "https://example.com/a.jpg",
        "s3://bucket/a.png",
        "/data/a.jpg",
        "../a.jpg",
        ".hidden.jpg",
        "-a.jpg",
        "a:b.jpg",
        "a?b.jpg",
        "a\\b.jpg",
        "a\nb.jpg",
        "x" * 300 + ".jpg",
        "写" * 90 + ".jpg",
        "%41.jpg",
    ],
)
def test_a_path_that_is_no_name_of_a_file_gets_a_hash(path):
    image_id = image_id_of(path)
    assert is_id(image_id) and len(image_id.encode()) <= MAX_ID_BYTES
    assert not set(image_id) & set('/\\:*?"<>|#%')
    assert image_id[0] not in "-." and image_id != image_id_of(f"x{path}")
    assert image_id[-12:].strip(string.hexdigits) == ""


@given(st.text(max_size=300), st.text(max_size=300))
def test_ids_of_any_text_are_names_of_files_and_differ_where_only_a_hash_tells_them_apart(path, other):
    image_id = image_id_of(path)
    assert is_id(image_id) and "/" not in image_id and image_id == image_id_of(path)
    if path != other and image_id == image_id_of(other):
        with pytest.raises(ListError, match="would both be the image"):
            refuse_equal_ids([(image_id, path), (image_id, other)])


def test_two_paths_of_one_id_are_named():
    paths = ["a/b-c.jpg", "a-b/c.png"]
    with pytest.raises(ListError, match=r"a/b-c\.jpg and a-b/c\.png would both be the image 'a-b-c': rename one"):
        refuse_equal_ids((image_id_of(path), path) for path in paths)
    assert refuse_equal_ids([("x", "x.jpg"), ("x", "x.jpg")]) == {"x": "x.jpg"}
