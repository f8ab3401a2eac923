"""CBOR as boto3 sends and reads it, with botocore's own coder as the oracle."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.rehearsal.cbor import decoded, encoded

SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC))
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(VALUES)
def test_what_is_written_is_read(value):
    assert decoded(encoded(value)) == value


@pytest.mark.parametrize(
    ("value", "hexadecimal"),  # RFC 8949, appendix A
    [
        (23, "17"),
        (24, "1818"),
        (1000000, "1a000f4240"),
        (-100, "3863"),
        (1.1, "fb3ff199999999999a"),
        ("IETF", "6449455446"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
        ([None, True, False], "83f6f5f4"),
    ],
)
def test_bytes_are_those_of_the_standard(value, hexadecimal):
    assert encoded(value).hex() == hexadecimal


@pytest.mark.parametrize("content", [b"\x82\x01", b"\xff", b"\x61\xff", b"\x9f" * 5000])
def test_what_is_no_cbor_is_refused(content):
    with pytest.raises(ValueError, match="is no CBOR"):
        decoded(content)


def test_what_cannot_be_written_is_named():
    with pytest.raises(TypeError, match="set"):
        encoded({"a": {1, 2}})
