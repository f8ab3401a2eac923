"""Records as the warehouse writes them, and everything else that a file can hold."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.data.sources.abid_records import BinRecord, InvalidRecord, Product, parse_record


def product(asin="B01", quantity=1, **more) -> dict:
    return {"asin": asin, "name": "a thing", "quantity": quantity} | more


def payload(products: dict, expected) -> bytes:
    return json.dumps({"BIN_FCSKU_DATA": products, "EXPECTED_QUANTITY": expected}).encode()


def test_a_record_of_the_bucket():
    content = b"""{"BIN_FCSKU_DATA": {
        "B00CFQWRPS": {"asin": "B00CFQWRPS", "name": "Fleet Enema", "normalizedName": "Fleet Enema", "quantity": 1,
                       "height": {"unit": "IN", "value": 2.4}, "length": null, "weight": null},
        "ZZZ0T2E2FR": {"asin": "B00T0BUKW8", "name": "Kirkland Almonds", "quantity": 2, "height": null}},
        "EXPECTED_QUANTITY": 3}"""
    record = parse_record(content)
    assert record == BinRecord(
        3, (Product("B00CFQWRPS", "Fleet Enema", 1), Product("B00T0BUKW8", "Kirkland Almonds", 2))
    )


def test_an_empty_bin_has_a_count_of_0_and_is_like_no_other():
    record = parse_record(payload({}, 0))
    assert record.expected_quantity == 0
    assert record.contents is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "record-not-json"),
        (b"{", "record-not-json"),
        (b"\xff\xfe\x00", "record-not-json"),
        (b"[" * 100_000, "record-not-json"),
        (b"[]", "record-schema"),
        (b"null", "record-schema"),
        (b'{"EXPECTED_QUANTITY": 1}', "record-schema"),
        (payload([], 0), "record-schema"),
        (payload({"a": 3}, 3), "record-schema"),
        (payload({"a": product(asin=3)}, 1), "record-schema"),
        (b'{"BIN_FCSKU_DATA": {}}', "record-quantity"),
        (payload({}, "0"), "record-quantity"),
        (payload({}, True), "record-quantity"),
        (payload({}, -1), "record-quantity"),
        (payload({"a": product(quantity=2.0)}, 2), "record-quantity"),
        (payload({"a": product(quantity=None)}, 2), "record-quantity"),
        (
            payload({"a": product(quantity=10**12)}, 10**12),
            "record-quantity",
        ),  # no count of a bin: int32 in the manifest
        (payload({"a": product(quantity=2)}, 3), "record-sum"),
        (payload({}, 1), "record-sum"),
    ],
)
def test_what_is_wrong_is_said_in_one_fixed_word(content, reason):
    with pytest.raises(InvalidRecord) as caught:
        parse_record(content)
    assert caught.value.reason == reason


def test_contents_are_what_is_in_the_bin_whatever_the_order_and_the_keys():
    two_and_one = parse_record(payload({"x": product("A", 2), "y": product("B", 1)}, 3))
    assert parse_record(payload({"p": product("B", 1), "q": product("A", 2)}, 3)).contents == two_and_one.contents
    assert parse_record(payload({"x": product("A", 1), "y": product("B", 2)}, 3)).contents != two_and_one.contents
    split_up = {"x": product("A", 1), "y": product("B", 1), "z": product("A", 1)}
    assert parse_record(payload(split_up, 3)).contents == two_and_one.contents
    with_none_of_one = {"x": product("A", 2), "y": product("B", 1), "z": product("C", 0)}
    assert parse_record(payload(with_none_of_one, 3)).contents == two_and_one.contents


def test_a_bin_with_none_of_a_product_is_empty():
    assert parse_record(payload({"x": product("A", 0)}, 0)).contents is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
nearly_products = st.fixed_dictionaries(
    {}, optional={"asin": json_values, "name": json_values, "quantity": json_values}
)
near_records = st.fixed_dictionaries(
    {},
    optional={
        "BIN_FCSKU_DATA": json_values | st.dictionaries(st.text(max_size=3), nearly_products | json_values, max_size=3),
        "EXPECTED_QUANTITY": json_values,
    },
)


@given(json_values | near_records)
def test_any_json_is_a_record_or_an_invalid_one(value):
    with contextlib.suppress(InvalidRecord):
        record = parse_record(json.dumps(value).encode())
        assert sum(item.quantity for item in record.products) == record.expected_quantity
        assert (record.contents is None) == (record.expected_quantity == 0)


@given(st.lists(st.tuples(st.text(st.characters(), min_size=1), st.integers(0, 9)), max_size=4))
def test_any_names_of_products_can_be_compared(held):
    products = {str(i): product(asin, quantity) for i, (asin, quantity) in enumerate(held)}
    record = parse_record(payload(products, sum(quantity for _, quantity in held)))
    assert record.contents == parse_record(payload(products, record.expected_quantity)).contents


@given(st.binary())
def test_any_bytes_are_a_record_or_an_invalid_one(content):
    with contextlib.suppress(InvalidRecord):
        assert isinstance(parse_record(content), BinRecord)
