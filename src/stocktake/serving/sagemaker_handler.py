"""What AWS's own PyTorch inference image calls to serve an exported model: there this file is code/inference.py.

TorchServe answers /ping and /invocations there, and AWS's toolkit calls `model_fn` once in each of its workers and
`transform_fn` for each request: `Transformer` of aws/sagemaker-inference-toolkit 1.10, as
aws/sagemaker-pytorch-inference-toolkit 2.0.25 has it, too. `context` is pytorch/serve's (ts/context.py).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from stocktake.images.decoding import UndecodableImage
from stocktake.serving.errors import RejectedRequest, no_s3_images, undecodable
from stocktake.serving.predictor import Predictor
from stocktake.serving.request_parsing import BodyReader, CountRequest, read_count_request

MAX_BODY_BYTES = 6 * 2**20  # SageMaker sends no larger one
BODY_TIMEOUT_S = 30  # of no effect: the body is here


def model_fn(model_dir: str) -> Predictor:
    """Opens the model, for one core: TorchServe starts as many workers as there are.

    Raises:
        ModelFolderError: A file is missing, damaged or of another version.
    """
    return Predictor.open(model_dir, num_threads=1)


def transform_fn(
    predictor: Predictor, body: bytes | str | None, content_type: str | None, accept: str, context: Any
) -> bytes:
    """Returns what scripts/serve.py answers to /invocations, the status of a refusal with it.

    Args:
        body: The toolkit decodes JSON into text, and has none of a form, which TorchServe takes apart.
        accept: Of no effect: the answer is JSON.
        context: Has the request's headers, and takes the status.
    """
    content = body.encode() if isinstance(body, str) else body or b""
    headers = {name.lower(): value for name, value in context.get_all_request_header(0).items()}
    headers["content-type"] = content_type or ""
    try:
        asked = asyncio.run(_read(content, headers, predictor))
        return bytes(JSONResponse(asdict(predictor.predict(asked.image, asked.expected_count))).body)
    except UndecodableImage as image:
        rejected = undecodable(image)
    except RejectedRequest as error:
        rejected = error
    context.set_response_status(rejected.status, HTTPStatus(rejected.status).phrase)
    return bytes(rejected.response().body)


async def _read(content: bytes, headers: Mapping[str, Any], predictor: Predictor) -> CountRequest:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    # TorchServe keeps the types of a form's parts among the headers, as dicts.
    texts = [(name.encode(), value.encode()) for name, value in headers.items() if isinstance(value, str)]
    request = Request({"type": "http", "method": "POST", "query_string": b"", "headers": texts}, receive)
    reader = BodyReader(MAX_BODY_BYTES, MAX_BODY_BYTES, BODY_TIMEOUT_S)
    asked = await read_count_request(request, predictor.counts, reader)
    if asked.s3_key is not None:
        raise no_s3_images()
    return asked
