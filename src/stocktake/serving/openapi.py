"""The OpenAPI description of POST /invocations: every body, every answer, and nothing that is not so."""

from collections.abc import Sequence
from typing import Any

from stocktake.serving.request_parsing import ATTRIBUTES_HEADER, FORM, JSON, RAW

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


def invocation_rejections(reads_s3: bool) -> dict[int | str, dict[str, Any]]:
    """Returns all answers of POST /invocations that are no count."""
    described = rejections(*(status for status in REJECTIONS if reads_s3 or status not in S3_ONLY))
    described[503]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return described


def invocation_request(counts: Sequence[int], reads_s3: bool) -> dict[str, Any]:
    """Returns the parameters and the bodies of POST /invocations, for `openapi_extra`."""
    expected = {"type": "integer", "enum": list(counts), "description": "The record's count, to have it checked."}
    return {
        "parameters": [
            {"name": "expected_count", "in": "query", "schema": expected, "description": "With any body."},
            {
                "name": ATTRIBUTES_HEADER,
                "in": "header",
                "schema": {"type": "string"},
                "description": "CustomAttributes of InvokeEndpoint, such as `expected_count=3`; others are ignored.",
            },
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
