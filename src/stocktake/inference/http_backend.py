"""A running scripts/serve.py, asked by its URL."""

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from stocktake.inference.endpoint_backend import EndpointError, probabilities_in, rejection_in
from stocktake.inference.web import open_response
from stocktake.serving.custom_attributes import ATTRIBUTES_HEADER, image_id_attribute

MAX_WAIT_S = 30  # a longer Retry-After is not waited for
MAX_RESPONSE_BYTES = 2**20  # scripts/serve.py never says so much


class Endpoint:
    """A server that scripts/serve.py runs, asked by its URL."""

    def __init__(self, url: str, timeout_s: float, max_tries: int):
        """
        Args:
            url: Such as `http://127.0.0.1:8080`.
            timeout_s: One request may take this long, to the last byte of its answer.
            max_tries: Of one image, while the server says that it is busy.

        Raises:
            ValueError: It is no web address, or one with a password, which no message shall show.
        """
        try:
            is_web = urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc != ""
        except ValueError:  # a bracket too many
            is_web = False
        if is_web and "@" in urlsplit(url).netloc:
            without = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl()
            raise ValueError(f"endpoint= holds a user or a password, which nothing here sends. Type endpoint={without}")
        if not is_web:
            raise ValueError(f"endpoint={url!r} is no web address. Type endpoint=http://127.0.0.1:8080")
        self.url = url.rstrip("/").removesuffix("/invocations")
        self.timeout_s, self.max_tries = timeout_s, max_tries

    def check(self) -> None:
        """Asks whether the model answers, so that not every image has to find out.

        Raises:
            EndpointError: It does not.
        """
        try:
            self._send("/ping")
        except EndpointError as error:
            raise EndpointError(f"{error} Start it with: python scripts/serve.py model=FOLDER") from error

    def count(self, content: bytes, image_id: str = "") -> dict[int, float]:
        """Returns P(count) of every count.

        Args:
            image_id: Goes along, for the server's prediction log.

        Raises:
            EndpointError: The image was refused, or there was no answer.
        """
        return probabilities_in(self._send("/invocations", content, image_id_attribute(image_id)), self.url)

    def _send(self, path: str, content: bytes | None = None, attributes: str = "") -> Any:
        # An image of any kind: the server looks at the bytes.
        headers = {"Content-Type": "application/x-image", "User-Agent": "stocktake"}
        headers |= {ATTRIBUTES_HEADER: attributes} if attributes else {}
        request = urllib.request.Request(self.url + path, content, headers)  # noqa: S310 (http or https)
        for attempt in range(1, self.max_tries + 1):
            try:
                with open_response(request, self.timeout_s) as response:
                    content = response.read(MAX_RESPONSE_BYTES)
                if not isinstance(response, urllib.error.HTTPError):
                    return json.loads(content)
            except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                raise EndpointError(f"{self.url} does not answer: {reason}.") from None
            wait_s = _retry_after_s(response) if response.code == 503 and attempt < self.max_tries else None
            if wait_s is None:
                raise EndpointError(_rejection(response, content))
            time.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")


def _retry_after_s(error: urllib.error.HTTPError) -> float | None:
    """Returns how long the server asks to wait; None where it does not, or for too long."""
    text = error.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and int(text) <= MAX_WAIT_S else None


def _rejection(error: urllib.error.HTTPError, content: bytes) -> str:
    return rejection_in(content) or f"HTTP {error.code} {error.reason}"
