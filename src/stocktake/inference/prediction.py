"""What is said of an image, and the backend that says it: a checkpoint, an exported model or a running server."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self


def printable(text: str) -> str:
    """Returns the text with what a terminal would obey, or cannot show, in Python's own notation.

    The name of a file may hold anything but a slash: colors of a terminal, and bytes that are no text.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


@dataclass(frozen=True)
class Prediction:
    """What there is to say of one image: a count with its probabilities, or why it could not be read."""

    image: str
    count: int | None = None
    probabilities: dict[int, float] | None = None
    error: str | None = None

    @classmethod
    def of(cls, image: str, counts: Sequence[int], probabilities_K: Sequence[float]) -> Self:
        """Returns the prediction of P(count), the K of them as plain floats."""
        by_count = dict(zip(counts, (round(p, 6) for p in probabilities_K), strict=True))
        return cls(image, counts[max(range(len(counts)), key=probabilities_K.__getitem__)], by_count)

    @classmethod
    def unread(cls, image: str, error: BaseException) -> Self:
        reason = str(error)
        if isinstance(error, OSError) and error.strerror and str(error.filename) == image:
            reason = error.strerror  # without the file's name, which stands beside it
        return cls(image, error=" ".join(str(reason).split())[:500] or type(error).__name__)

    def as_json(self) -> str:
        """Returns one line: `{"image", "count", "probabilities": {"1": 0.7, ...}}` or `{"image", "error"}`."""
        return json.dumps({name: value for name, value in vars(self).items() if value is not None})


class Backend(Protocol):
    """Counts the items in images; a new way to count is a class with this method, and a key in workflows/predict.py."""

    def predict(self, images: Sequence[str | Prediction], read: Callable[[str], bytes]) -> Iterator[Prediction]:
        """Yields one prediction an image, in order, while it counts.

        Args:
            images: URLs or paths; what could not even be found comes as the prediction that says so, and is passed on.
            read: Returns the bytes of one.
        """
        ...
