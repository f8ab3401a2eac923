"""From a request's body to an image and the record's count, within limits of size and time."""

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from stocktake.images.decoding import EMPTY
from stocktake.serving.custom_attributes import (
    ATTRIBUTES_HEADER,
    EXPECTED_COUNT,
    IMAGE_ID,
    image_id_of,
    kept_id,
    read_attributes,
)
from stocktake.serving.errors import RejectedRequest, busy, malformed, too_large

# The bytes themselves show what they are, so a body without a media type is taken for an image, too.
RAW = ("image/jpeg", "image/png", "image/webp", "image/gif", "application/x-image", "application/octet-stream")
NO_MEDIA_TYPE = ""  # boto3's invoke_endpoint sends no Content-Type unless it is given one
JSON, FORM = "application/json", "multipart/form-data"
MAX_JSON_PARTS = 2_000  # more than the longest key of S3 could hold of such letters


@dataclass(frozen=True)
class CountRequest:
    """What a request asks: an image, or where it is stored, what the record says of it, and by which id it is known."""

    image: bytes = b""
    s3_key: str | None = None
    expected_count: int | None = None
    image_id: str | None = None


class BodyReader:
    """Reads bodies as they arrive, none of them too large or too slow, and all together within a limit.

    Where they would not be, the one that has been arriving the longest is let go, so that slow ones hold up nobody.
    """

    def __init__(self, max_bytes_each: int, max_bytes_together: int, timeout_s: float):
        """
        Args:
            timeout_s: For a whole body to arrive.
        """
        self.max_bytes_each, self.max_bytes_together, self.timeout_s = max_bytes_each, max_bytes_together, timeout_s
        self._bodies: dict[asyncio.Timeout, bytearray] = {}  # the oldest first

    async def read(self, request: Request) -> bytes:
        """Returns the body of a request.

        Raises:
            RejectedRequest: It is too large (reading stops there), too slow, or breaks off.
        """
        announced = request.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > self.max_bytes_each:
            raise too_large(self.max_bytes_each)
        body, was_let_go = bytearray(), False
        try:
            async with asyncio.timeout(self.timeout_s) as timeout:
                self._bodies[timeout] = body
                try:
                    async for chunk in request.stream():
                        body += chunk
                        if len(body) > self.max_bytes_each:
                            raise too_large(self.max_bytes_each)
                        self._make_room()
                finally:
                    was_let_go = self._bodies.pop(timeout, None) is None
        except TimeoutError:
            if was_let_go:
                raise busy("Bodies that arrive faster need the room.") from None
            error = f"The body did not arrive within {self.timeout_s:g} s."
            raise RejectedRequest(408, "too-slow", error, "Send a smaller image.") from None
        except ClientDisconnect:  # nobody reads this answer, but the log does
            raise RejectedRequest(
                400, "gone", "The client left before its body had arrived.", "Send it again."
            ) from None
        return bytes(body)

    def _make_room(self) -> None:
        while sum(map(len, self._bodies.values())) > self.max_bytes_together:
            oldest = next(iter(self._bodies))
            del self._bodies[oldest]
            with contextlib.suppress(RuntimeError):  # its time has just run out anyhow
                oldest.reschedule(0)


async def read_count_request(request: Request, counts: Sequence[int], body_reader: BodyReader) -> CountRequest:
    """Returns what is asked.

    Args:
        counts: Those that the model tells apart; a record can only be checked against them.
        body_reader: Reads the body, within its limits.

    Raises:
        RejectedRequest: The body is too large (reading stops there), too slow, of another type, or malformed.
    """
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in (*RAW, NO_MEDIA_TYPE, JSON, FORM):
        raise RejectedRequest(
            415,
            "media-type",
            f"Content-Type {media_type[:100]!r} is none that this server reads.",
            f"Set Content-Type to {', '.join((*RAW, JSON))} or {FORM}.",
        )
    beside = [_from_text(text) for text in _texts_beside_the_body(request, EXPECTED_COUNT)]
    _check_counts(beside, counts)
    body = await body_reader.read(request)
    if not body:
        raise RejectedRequest(400, "empty", *EMPTY)
    if media_type == JSON:
        count_request = _from_json(body)
    elif media_type == FORM:
        count_request = await _from_form(request, body)
    else:
        count_request = CountRequest(body)
    given = [*beside, *([] if count_request.expected_count is None else [count_request.expected_count])]
    _check_counts(given, counts)
    ids = _texts_beside_the_body(request, IMAGE_ID)
    image_id = ids[0] if ids else image_id_of(count_request.s3_key or "")
    return replace(count_request, expected_count=given[0] if given else None, image_id=kept_id(image_id))


def _from_json(body: bytes) -> CountRequest:
    # Millions of lists would take the time of everybody's requests; what is asked for here has one object, two commas.
    if sum(map(body.count, (b"[", b"{", b","))) > MAX_JSON_PARTS:
        raise malformed(f"The JSON body has more than {MAX_JSON_PARTS} parts.", '{"image": "<base64>"}')
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise malformed(f"The body is not JSON: {str(error)[:100]}.", '{"image": "<base64>"}') from None
    keys = ("image", "s3_key", "expected_count")
    if not isinstance(asked, dict) or set(asked) - set(keys) or ("image" in asked) == ("s3_key" in asked):
        raise malformed(
            "The JSON body has to be an object with either image or s3_key, and perhaps expected_count.",
            '{"image": "<base64>", "expected_count": 3}',
        )
    name = "image" if "image" in asked else "s3_key"
    if not isinstance(asked[name], str):
        raise malformed(f"{name} has to be a string.", f'{{"{name}": "..."}}')
    expected_count = _from_json_number(asked.get("expected_count"))
    if name == "s3_key":
        return CountRequest(s3_key=asked[name], expected_count=expected_count)
    try:
        return CountRequest(base64.b64decode(asked[name], validate=True), expected_count=expected_count)
    except (binascii.Error, ValueError) as error:
        raise malformed(
            f"image is not base64: {str(error)[:100]}.", "the plain alphabet (A-Z a-z 0-9 + /), without line breaks"
        ) from None


async def _from_form(request: Request, body: bytes) -> CountRequest:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=1, max_fields=1, max_part_size=1024)
    parser.spool_max_size = len(body) + 1  # never to the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise malformed(f"The form cannot be read: {error.message}", "one part `file`") from None
    except ValueError:  # its names are decoded as the charset says, which may be any that Python knows
        raise malformed("The form's charset does not fit its names.", "one part `file`, and no charset") from None
    file, count = form.get("file"), form.get("expected_count", "")
    if set(form) - {"file", "expected_count"} or not isinstance(file, UploadFile) or not isinstance(count, str):
        raise malformed(
            "The form has to have a part `file` with a file name, and perhaps `expected_count`, no other.",
            "curl --form file=@bin.jpg --form expected_count=3",
        )
    # A browser sends the field of a number that was left empty.
    return CountRequest(await file.read(), expected_count=_from_text(count) if count else None)


def _texts_beside_the_body(request: Request, name: str) -> list[str]:
    """Returns what the query and the custom attributes say under a name, in this order."""
    attributes = read_attributes(request.headers.get(ATTRIBUTES_HEADER, ""))
    return [*request.query_params.getlist(name), *(text for key, text in attributes if key == name)]


def _from_text(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise _bad_count(f"is {text[:40]!r}", "a whole number")


def _from_json_number(number: Any) -> int | None:
    if number is None:
        return None
    # For JSON, 3.0 is a whole number, too.
    if type(number) is int or (type(number) is float and number.is_integer()):
        return int(number)
    raise _bad_count(f"is {str(number)[:40]!r}", "a whole number")


def _check_counts(given: Sequence[int], counts: Sequence[int]) -> None:
    """Refuses what no model could check: a count that it never learnt, or two that contradict each other."""
    if len(set(given)) > 1:
        raise RejectedRequest(
            409,
            "expected-count",
            f"expected_count is given more than once: {', '.join(map(str, given))[:40]}.",
            "Give it in one place: the body, the query or the custom attributes.",
        )
    if given and given[0] not in counts:
        known = ", ".join(map(str, counts))
        raise _bad_count(f"is {str(given[0])[:40]}, which this model does not tell apart", f"one of {known}")


def _bad_count(what: str, wanted: str) -> RejectedRequest:
    hint = f"Send {wanted}, or leave it out to have the items counted."
    return RejectedRequest(400, "expected-count", f"expected_count {what}.", hint)
