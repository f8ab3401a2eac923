"""FetchAhead: what will be needed next is on its way, in threads, while something else is worked on."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue


class FetchAhead:
    """Fetches rows in threads, each once, and hands each out once.

    It may be sent to another process or be there after a fork: threads and what they fetch stay behind, and are
    made anew where they are asked for.
    """

    def __init__(self, fetch: Callable[[int], bytearray], num_threads: int, is_at_hand: Callable[[int], bool]):
        """
        Args:
            num_threads: Rows that are waited for at once.
            is_at_hand: Says of a row that it comes without a wait. One thread fetches all such rows: more of them
                would only take the processor, and Python's lock, from the decoder.
        """
        self.fetch, self.num_threads, self.is_at_hand = fetch, num_threads, is_at_hand
        self._start()

    def _start(self) -> None:
        self._pid, self._num_running = os.getpid(), 0
        self._threads: ThreadPoolExecutor | None = None
        self._under_way: set[int] = set()
        self._arrived: dict[int, bytearray | Exception] = {}
        self._wanted: SimpleQueue[int] = SimpleQueue()
        # A thread that found nothing more to do says so with None.
        self._results: SimpleQueue[tuple[int, bytearray | Exception] | None] = SimpleQueue()

    def __getstate__(self):
        return {"fetch": self.fetch, "num_threads": self.num_threads, "is_at_hand": self.is_at_hand}

    def __setstate__(self, state):
        self.__init__(**state)

    def request(self, rows: Iterable[int]) -> None:
        """Starts to fetch those rows that are not under way yet."""
        if self._pid != os.getpid():
            self._start()
        new = [row for row in rows if row not in self._under_way]
        self._under_way.update(new)
        for row in new:
            self._wanted.put(row)
        # A task goes on while rows are wanted: handing over every row by itself costs a third of a GET.
        num_waiting = sum(not self.is_at_hand(row) for row in new)
        num_wanted = max(num_waiting, 1 - self._num_running) if new else 0
        for _ in range(min(num_wanted, self.num_threads - self._num_running)):
            self._start_task()

    def _start_task(self) -> None:
        self._num_running += 1
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.num_threads, "fetch")
        self._threads.submit(self._work)

    def take(self, row: int) -> bytearray:
        """Waits for a requested row and returns what was fetched, or raises what fetching it raised."""
        while row not in self._arrived:
            result = self._results.get()
            if result is None:
                self._num_running -= 1
                if not self._wanted.empty():  # they came just after the task had looked
                    self._start_task()
            else:
                self._arrived[result[0]] = result[1]
        self._under_way.remove(row)
        content = self._arrived.pop(row)
        if isinstance(content, Exception):
            raise content
        return content

    def _work(self) -> None:
        while True:
            try:
                row = self._wanted.get_nowait()
            except Empty:
                self._results.put(None)
                return
            try:
                self._results.put((row, self.fetch(row)))
            except Exception as error:  # raised where the row is taken
                self._results.put((row, error))
