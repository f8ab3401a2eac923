"""As much of CBOR (RFC 8949) as AWS's RPC protocol needs: botocore reads it, and here it is written."""

import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any

# Major types, which are the first three bits of an item.
UNSIGNED, NEGATIVE, BYTES, TEXT, LIST, MAP, TAG = range(7)
FALSE, TRUE, NULL, DOUBLE = 0xF4, 0xF5, 0xF6, 0xFB
SECONDS_SINCE_1970 = 1  # the tag of a time


def decoded(content: bytes) -> Any:
    """Returns the value that `content` stands for; times come as datetime.

    Raises:
        ValueError: It is no CBOR.
    """
    from botocore.parsers import ResponseParserError, create_parser

    parser = create_parser("smithy-rpc-v2-cbor")
    try:
        return parser.parse_data_item(parser.get_peekable_stream_from_bytes(content))
    except (ResponseParserError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"The body is no CBOR: {error}") from error


def encoded(value: Any) -> bytes:
    """Returns a value as CBOR.

    Raises:
        TypeError: It is of a kind that no API here answers with.
    """
    match value:
        case bool():
            return bytes([TRUE if value else FALSE])
        case None:
            return bytes([NULL])
        case int():
            return _head(UNSIGNED, value) if value >= 0 else _head(NEGATIVE, -1 - value)
        case float():
            return bytes([DOUBLE]) + struct.pack(">d", value)
        case str():
            content = value.encode()
            return _head(TEXT, len(content)) + content
        case bytes():
            return _head(BYTES, len(value)) + value
        case datetime():
            return _head(TAG, SECONDS_SINCE_1970) + encoded(value.timestamp())
        case list() | tuple():
            return _head(LIST, len(value)) + b"".join(map(encoded, value))
        case Mapping():
            pairs = (encoded(key) + encoded(item) for key, item in value.items())
            return _head(MAP, len(value)) + b"".join(pairs)
    raise TypeError(f"{value!r} is a {type(value).__name__}, which is not written as CBOR here.")


def _head(major_type: int, number: int) -> bytes:
    """Returns an item's first bytes: its type, and its value or length in the fewest bytes."""
    if number < 24:
        return bytes([major_type << 5 | number])
    for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major_type << 5 | extra]) + number.to_bytes(size, "big")
    raise ValueError(f"{number} has more than 64 bits.")
