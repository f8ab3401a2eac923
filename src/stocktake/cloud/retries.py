"""Makes a call again that AWS did not answer: jobs go on, and are billed, whether or not somebody hears of them."""

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LONGEST_SILENCE_S = 3600.0  # then nobody waits any more; the jobs go on
# What AWS calls asking too often, or a fault of its own.
PASSING = re.compile(
    r"throttl|toomanyrequests|^limitexceeded|requestlimitexceeded|slowdown|requesttimeout|internal(failure|server|service|"
    r"error)|serviceunavailable|priorrequestnotcomplete",
    re.IGNORECASE,
)


class Unavailable(OSError):
    """AWS did not answer: the network is gone, or it was asked too often.

    Attributes:
        code: AWS's name of it, or the network's.
    """

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = code


def is_passing(error: Exception) -> bool:
    """Whether an error of botocore's is no answer to the request: throttling, a fault at AWS, no network."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
    from botocore.parsers import ResponseParserError  # something between here and AWS answered

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or bool(PASSING.search(error.response["Error"].get("Code", "")))
    return isinstance(error, ConnectionError | HTTPClientError | ResponseParserError)


class Patience:
    """Calls until there is an answer, ever more seldom; says so once for each kind of silence."""

    def __init__(
        self,
        say: Callable[[str], None] = print,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_silence_s: float = LONGEST_SILENCE_S,
    ):
        """
        Args:
            say: Tells a person.
            first_pause_s: Between the first two tries; each pause is twice the one before, up to a minute.
            longest_silence_s: After so long without an answer the error is raised.
        """
        self.say, self.first_pause_s, self.longest_silence_s = say, first_pause_s, longest_silence_s
        self._reported: set[str] = set()

    def __call__(self, call: Callable[[], Result]) -> Result:
        """Returns what `call` returns.

        Raises:
            Unavailable: There was no answer for too long.
        """
        pause_s, silent_since, has_warned = self.first_pause_s, time.monotonic(), False
        while True:
            try:
                result = call()
            except Unavailable as error:
                if time.monotonic() - silent_since >= self.longest_silence_s:
                    raise
                if error.code not in self._reported:
                    self._reported.add(error.code)
                    has_warned = True
                    self.say(f"{error} What was sent goes on; asking again until AWS answers.")
                # Not in step with everybody else who was refused at the same moment.
                time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (no cryptography)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                if has_warned:
                    self.say(f"AWS answers again, after {time.monotonic() - silent_since:.0f} s.")
                return result
