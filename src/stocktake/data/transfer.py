"""Many small requests at once, of which only so many are under way, so that memory does not grow with the objects."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
from obstore.exceptions import BaseError

from stocktake.storage import Folder


async def fetch(folder: Folder, key: str) -> bytes | None:
    """Returns the bytes of one object, `None` if there is no such object.

    Raises:
        StorageError: It could not be read within the retry budget.
    """
    try:
        response = await obstore.get_async(folder.store, key)
        return bytes(await response.bytes_async())
    except FileNotFoundError:
        return None
    except BaseError as error:
        raise folder.explained(error, f"read {key}") from error


async def store(folder: Folder, key: str, content: bytes) -> None:
    """Writes one object whole or not at all; raises StorageError."""
    try:
        await obstore.put_async(folder.store, key, content)
    except BaseError as error:
        raise folder.explained(error, f"write {key}") from error


async def remove(folder: Folder, key: str) -> None:
    """Removes one object; raises StorageError."""
    try:
        await obstore.delete_async(folder.store, key)
    except BaseError as error:
        raise folder.explained(error, f"remove {key}") from error


async def in_turn(
    items: Sequence[Any],
    work: Callable[[Any], Awaitable[None]],
    num_at_once: int,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Runs `work` on every item, `num_at_once` at a time, and calls `advance` after each; the first error ends it."""
    waiting = iter(items)

    async def take_turns() -> None:
        for item in waiting:
            await work(item)
            advance()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(num_at_once, len(items))):
                group.create_task(take_turns())
    except* Exception as failures:  # one reason is enough; the others failed with it
        raise failures.exceptions[0] from None


def finish(work: Coroutine) -> None:
    """Runs `work` to its end, also in a notebook, whose thread has a running loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
