"""What is said beside an image: an id goes there and back whatever is in it, and others' attributes disturb nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.serving.custom_attributes import (
    MAX_CHARACTERS,
    image_id_attribute,
    image_id_of,
    kept_id,
    read_attributes,
)

NAMES = st.text(min_size=1, max_size=80)  # of four bytes each these fit


@given(NAMES.filter(lambda name: name.isprintable()))
def test_an_id_goes_there_and_back(name):
    attribute = image_id_attribute(name)
    assert attribute.isascii() and len(attribute) <= MAX_CHARACTERS
    assert read_attributes(f"expected_count=3,{attribute}") == [("expected_count", "3"), ("image_id", name)]
    assert kept_id(name) == name


def test_what_cannot_be_sent_or_kept_is_left_out():
    assert image_id_attribute("x" * 2000) == image_id_attribute("") == ""
    assert image_id_attribute("bin\udcff") == "image_id=bin%3F"  # a file's name that is no UTF-8
    assert [kept_id(name) for name in ("", None, "a\nb", "x" * 256)] == [None] * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("trace", []),
        ("trace=a=b; expected_count = 3", [("trace", "a=b"), ("expected_count", "3")]),
    ],
)
def test_attributes_are_read_as_they_are_written_by_hand(text, expected):
    assert read_attributes(text) == expected


@pytest.mark.parametrize(
    "location",
    ["00004.jpg", "/photos/3/00004.png", "s3://bins/00004.jpg", "https://host/a/00004.jpg?signed=x/y.z", "00004"],
)
def test_an_image_is_known_by_its_file_s_name(location):
    assert image_id_of(location) == "00004"
