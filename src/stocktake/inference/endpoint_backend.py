"""Images counted by an endpoint, a server's or SageMaker's, several at a time and without torch."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from stocktake.inference.image_reader import READ_ERRORS
from stocktake.inference.prediction import Prediction
from stocktake.serving.custom_attributes import image_id_of

SUM_TOLERANCE = 1e-2  # of all P(count)


class EndpointError(OSError):
    """The endpoint did not answer, or refused; the message holds its answer."""


class Endpoint(Protocol):
    """Whatever counts an image that is sent to it."""

    def check(self) -> None:
        """Raises an EndpointError where it does not answer, so that not every image has to find out."""
        ...

    def count(self, content: bytes, image_id: str = "") -> dict[int, float]:
        """Returns P(count) of every count, or raises an EndpointError.

        Args:
            image_id: Goes along, so that whoever logs the answer can tell later of which image it was.
        """
        ...


def probabilities_in(response: Any, who: str) -> dict[int, float]:
    """Returns P(count) of every count from what scripts/serve.py answers.

    Args:
        response: From its JSON.
        who: Gave it, for the message.

    Raises:
        EndpointError: It is something else.
    """
    try:
        by_count = {int(count): float(p) for count, p in response["probabilities"].items()}
        # A count that stands there twice, a NaN or what sums to something else is no P(count).
        if len(by_count) != len(response["probabilities"]) or min(by_count.values()) < 0:
            raise ValueError
        if not abs(sum(by_count.values()) - 1) < SUM_TOLERANCE:
            raise ValueError
        return by_count
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise EndpointError(f"{who} answers, but not as scripts/serve.py does: {str(response)[:200]}") from None


def rejection_in(content: str | bytes) -> str | None:
    """Returns why scripts/serve.py refused an image and what it says to do, `None` where this is no answer of its."""
    try:
        response = json.loads(content)
        return f"{response['error']} {response.get('hint') or response['cure']}"  # servers of before say "cure"
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


class EndpointBackend:
    """An endpoint, asked for several images at a time."""

    def __init__(self, endpoint: Endpoint, num_requests: int):
        self.endpoint, self.num_requests = endpoint, num_requests
        self.endpoint.check()

    def predict(self, images: Sequence[str | Prediction], read: Callable[[str], bytes]) -> Iterator[Prediction]:
        def count(image: str | Prediction) -> Prediction:
            if isinstance(image, Prediction):
                return image
            try:
                by_count = self.endpoint.count(read(image), image_id_of(image))
                return Prediction.of(image, list(by_count), list(by_count.values()))
            except READ_ERRORS as error:
                return Prediction.unread(image, error)

        with ThreadPoolExecutor(self.num_requests, "ask") as threads:
            waiting: deque[Future[Prediction]] = deque()
            for image in images:
                waiting.append(threads.submit(count, image))
                if len(waiting) == 2 * self.num_requests:  # no more images are in memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
