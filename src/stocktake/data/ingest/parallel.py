"""Many small requests at once, of which only so many are under way, so that memory does not grow with the objects."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from stocktake.data.loading.workers import use_batch_scheduling

Item = TypeVar("Item")


def in_turn(
    items: Sequence[Item],
    work: Callable[[Item], None],
    num_at_once: int,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Runs `work` on every item, `num_at_once` at a time, and calls `advance` after each.

    Threads, because a request of obstore's costs half as much there as it does under asyncio. The first error, or
    Ctrl-C, ends it when the requests that are under way have come back.
    """
    waiting, is_over = iter(items), threading.Event()

    def take_turns() -> None:
        for item in waiting:
            if is_over.is_set():
                return
            work(item)
            advance()

    with ThreadPoolExecutor(num_at_once, "transfer", use_batch_scheduling) as threads:
        try:
            for turns in as_completed([threads.submit(take_turns) for _ in range(min(num_at_once, len(items)))]):
                turns.result()
        finally:
            is_over.set()
