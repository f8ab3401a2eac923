"""A bin's metadata JSON -> BinRecord: what the warehouse believes is in the bin; what is valid, and why not.

The schema is the Amazon Bin Image Dataset's: {"BIN_FCSKU_DATA": {key: product}, "EXPECTED_QUANTITY": n}.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass

LARGEST_QUANTITY = 2**31 - 1  # the manifest's counts are int32; the largest real bin holds 111


class InvalidRecord(ValueError):
    """A record that cannot be used; `reason` is a short fixed word for the quarantine."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Product:
    asin: str
    name: str | None
    quantity: int


@dataclass(frozen=True)
class BinRecord:
    """What the warehouse's record says of one bin; an empty bin has no products and an expected quantity of 0."""

    expected_quantity: int
    products: tuple[Product, ...]

    @property
    def contents(self) -> str | None:
        """A digest that two bins share exactly if they hold the same products in the same quantities.

        `None` for an empty bin: two of them have nothing in common.
        """
        held = Counter()
        for product in self.products:
            held[product.asin] += product.quantity
        if not +held:
            return None
        # JSON, because it escapes what a name may hold and no encoding takes, such as half a surrogate pair.
        return hashlib.blake2b(json.dumps(sorted((+held).items())).encode(), digest_size=8).hexdigest()


def parse_record(payload: bytes) -> BinRecord:
    """Reads one metadata file.

    Raises:
        InvalidRecord: With the reason `record-not-json`, `record-schema`, `record-quantity` or
            `record-sum` (the products' quantities do not add up to EXPECTED_QUANTITY).
    """
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidRecord("record-not-json", str(error)[:200]) from None
    if not isinstance(content, dict) or not isinstance(content.get("BIN_FCSKU_DATA"), dict):
        raise InvalidRecord("record-schema", "there is no object BIN_FCSKU_DATA")
    expected = _quantity(content.get("EXPECTED_QUANTITY"), "EXPECTED_QUANTITY")
    products = tuple(_product(key, item) for key, item in content["BIN_FCSKU_DATA"].items())
    total = sum(product.quantity for product in products)
    if total != expected:
        raise InvalidRecord("record-sum", f"quantities sum to {total}, EXPECTED_QUANTITY is {expected}")
    return BinRecord(expected, products)


def _product(key: str, item: object) -> Product:
    if not isinstance(item, dict):
        raise InvalidRecord("record-schema", f"product {key[:40]!r} is not an object")
    # The map's key can differ from the product's own number, which is the one that counts.
    asin = item.get("asin") or key
    if not isinstance(asin, str):
        raise InvalidRecord("record-schema", f"product {key[:40]!r} has an asin that is no string")
    name = item.get("normalizedName") or item.get("name")
    return Product(asin, str(name) if name else None, _quantity(item.get("quantity"), f"quantity of {key[:40]!r}"))


def _quantity(value: object, name: str) -> int:
    # In Python True is an int, and in JSON 3.0 is a number like 3; only plain whole numbers are quantities.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_QUANTITY:
        raise InvalidRecord(
            "record-quantity", f"{name} is {str(value)[:40]!r}, not a whole number from 0 to {LARGEST_QUANTITY}"
        )
    return value
