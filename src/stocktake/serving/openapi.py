"""The OpenAPI description of POST /invocations: every body, every answer, and nothing that is not so."""

from collections.abc import Sequence
from typing import Any

from stocktake.serving.custom_attributes import ATTRIBUTES_HEADER, EXPECTED_COUNT, IMAGE_ID
from stocktake.serving.request_parsing import FORM, JSON, RAW
from stocktake.serving.request_record import REQUEST_ID

REJECTIONS = {
    400: "The body or expected_count is malformed.",
    403: "s3_key lies under no prefix that this server may read.",
    404: "There is no such object in S3.",
    408: "The body took too long to arrive.",
    409: "expected_count is given in two places that differ.",
    413: "The body, or the object in S3, is too large.",
    415: "The body's media type is none of these.",
    422: "The image is damaged, animated, or none that can be counted in.",
    424: "S3 did not give the object.",
    500: "The model failed; GET /ping shows whether it still answers.",
    503: "All slots are taken; Retry-After says in how many seconds to try again.",
}
S3_ONLY = (403, 404, 424)
LOGGED_ID = {
    "description": "The id in the prediction log, by which monitor.py is told the true count; of logged requests.",
    "schema": {"type": "string"},
}
LOGGED_PARAMETERS = (
    {
        "name": REQUEST_ID,
        "in": "header",
        "schema": {"type": "string"},
        "description": "An id of one's own, of 1 to 128 letters, digits and _.:/=+@-; else the server gives one.",
    },
    {
        "name": IMAGE_ID,
        "in": "query",
        "schema": {"type": "string"},
        "description": "Is logged, too, if it has at most 255 printable characters: true counts may name it instead.",
    },
)
REJECTION_SCHEMA = {
    "type": "object",
    "required": ["error", "hint", "reason"],
    "additionalProperties": False,
    "properties": {
        "error": {"type": "string", "description": "What is wrong."},
        "hint": {"type": "string", "description": "What to send instead."},
        "reason": {"type": "string", "description": "A short fixed word, as /metrics counts it."},
    },
}


def rejections(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a route that may answer with these statuses beside 200."""
    return {
        status: {"description": REJECTIONS[status], "content": {"application/json": {"schema": REJECTION_SCHEMA}}}
        for status in statuses
    }


def invocation_responses(reads_s3: bool, is_logged: bool) -> dict[int | str, dict[str, Any]]:
    """Returns what is to be said of all answers of POST /invocations, beside the schema of a count.

    Args:
        is_logged: There is a prediction log, so an answer that it takes has an id.
    """
    described = rejections(*(status for status in REJECTIONS if reads_s3 or status not in S3_ONLY))
    described[503]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    if is_logged:
        described[200] = {}
        for status in described.keys() - {500}:  # which is answered above what adds the id
            described[status].setdefault("headers", {})[REQUEST_ID] = LOGGED_ID
    return described


def invocation_request(counts: Sequence[int], reads_s3: bool, is_logged: bool) -> dict[str, Any]:
    """Returns the parameters and the bodies of POST /invocations, for `openapi_extra`."""
    expected = {"type": "integer", "enum": list(counts), "description": "The record's count, to have it checked."}
    return {
        "parameters": [
            {"name": EXPECTED_COUNT, "in": "query", "schema": expected, "description": "With any body."},
            {
                "name": ATTRIBUTES_HEADER,
                "in": "header",
                "schema": {"type": "string"},
                "description": "CustomAttributes of InvokeEndpoint, such as `expected_count=3,image_id=00004`, "
                "percent-encoded; others are ignored.",
            },
            *(LOGGED_PARAMETERS if is_logged else ()),
        ],
        "requestBody": {
            "required": True,
            "content": {
                **{media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in RAW},
                JSON: {"schema": _json_schema(expected, reads_s3)},
                FORM: {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "additionalProperties": False,
                        "properties": {"file": {"type": "string", "format": "binary"}, "expected_count": expected},
                    },
                    "encoding": {"file": {"contentType": "image/jpeg"}},
                },
            },
        },
    }


def _json_schema(expected: dict[str, Any], reads_s3: bool) -> dict[str, Any]:
    fields = {"image": {"type": "string", "format": "byte", "description": "The image in base64."}}
    if reads_s3:
        fields["s3_key"] = {"type": "string", "description": "s3://bucket/key under a prefix that is allowed here."}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": fields | {"expected_count": {"anyOf": [expected, {"type": "null"}]}},
        **({"oneOf": [{"required": [name]} for name in fields]} if reads_s3 else {"required": ["image"]}),
    }
