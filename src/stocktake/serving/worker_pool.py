"""Threads that count, and a queue before them that does not grow without end."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from stocktake.serving.errors import busy

Result = TypeVar("Result")


class WorkerPool:
    """Runs work in `num_workers` threads; so many requests and `max_waiting` more are let in, the others turned away.

    Used from one event loop, so its count needs no lock.
    """

    def __init__(self, num_workers: int, max_waiting: int):
        self.num_workers, self.max_waiting = num_workers, max_waiting
        self.num_inside = 0
        self._threads = ThreadPoolExecutor(num_workers, "count")

    def check(self) -> None:
        """
        Raises:
            RejectedRequest: With 503 and Retry-After: all slots are taken.
        """
        if self.num_inside >= self.num_workers + self.max_waiting:
            raise busy(f"{self.num_inside} requests are being answered or waiting.")

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Holds a slot while a request that has arrived is answered.

        Raises:
            RejectedRequest: With 503 and Retry-After: all slots are taken.
        """
        self.check()
        self.num_inside += 1
        try:
            yield
        finally:
            self.num_inside -= 1

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Returns what `work` returns, without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def close(self) -> None:
        """Ends the threads once they have finished what they do."""
        self._threads.shutdown()
