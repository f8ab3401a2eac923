"""What is fetched ahead, in threads."""

import multiprocessing
import pickle
import threading
import time

import pytest

from stocktake.data.loading.prefetch import FetchAhead


class Fetches:
    """Gives each row its own bytes, and keeps which were asked for."""

    def __init__(self, wait_s: float = 0.0):
        self.rows, self.wait_s = [], wait_s

    def __call__(self, row: int) -> bytes:
        self.rows.append(row)
        time.sleep(self.wait_s)
        if row < 0:
            raise OSError(f"row {row}")
        return b"%d" % row


def nothing(row: int) -> bool:
    return False


def test_every_row_comes_once_in_the_order_it_is_taken_in():
    fetch = Fetches()
    ahead = FetchAhead(fetch, num_threads=3, is_at_hand=nothing)
    ahead.request(range(10))
    ahead.request(range(5, 12))
    assert [ahead.take(row) for row in (11, 0, 5, 3)] == [b"11", b"0", b"5", b"3"]
    assert sorted(fetch.rows) == list(range(12))
    ahead.request([0])  # taken before: it is wanted anew
    assert ahead.take(0) == b"0"


def test_so_many_are_under_way_at_once():
    entered, open_gate = threading.Semaphore(0), threading.Event()

    def fetch(row):
        entered.release()
        open_gate.wait(10)
        return b""

    ahead = FetchAhead(fetch, num_threads=4, is_at_hand=nothing)
    ahead.request(range(9))
    assert all(entered.acquire(timeout=5) for _ in range(4))
    assert not entered.acquire(timeout=0.2)
    open_gate.set()
    assert [ahead.take(row) for row in range(9)] == [b""] * 9


@pytest.mark.parametrize(("num_waited_for", "num_threads"), [(0, 1), (2, 2), (9, 4)])
def test_rows_at_hand_come_through_one_thread(num_waited_for, num_threads):
    threads = set()

    def fetch(row):
        threads.add(threading.get_ident())
        time.sleep(0.01)
        return b""

    ahead = FetchAhead(fetch, num_threads=4, is_at_hand=lambda row: row >= num_waited_for)
    for first in range(0, 12, 4):  # asked for anew while the first are under way
        ahead.request(range(first, first + 8))
    assert [ahead.take(row) for row in range(16)] == [b""] * 16
    assert len(threads) == num_threads


def test_an_error_is_raised_where_its_row_is_taken():
    ahead = FetchAhead(Fetches(), num_threads=2, is_at_hand=nothing)
    ahead.request([1, -2, 3])
    assert ahead.take(1) == b"1"
    with pytest.raises(OSError, match="row -2"):
        ahead.take(-2)
    assert ahead.take(3) == b"3"


def test_no_row_is_forgotten_when_threads_run_dry():
    # Threads end just as rows are added: each of the many small requests is such a moment.
    ahead = FetchAhead(Fetches(), num_threads=2, is_at_hand=nothing)
    for row in range(0, 6000, 3):
        ahead.request([row, row + 1, row + 2])
        assert ahead.take(row + 2) == b"%d" % (row + 2)
    assert ahead.take(0) == b"0"


def test_a_copy_starts_with_nothing_under_way():
    ahead = FetchAhead(Fetches(wait_s=0.01), num_threads=2, is_at_hand=nothing)
    ahead.request([1, 2])
    copy = pickle.loads(pickle.dumps(ahead))
    copy.request([2])
    assert copy.take(2) == b"2"
    assert copy.fetch.rows[-1:] == [2]


def _take_in_child(ahead, connection):
    ahead.request([4])
    connection.send(ahead.take(4))


def test_a_forked_process_has_threads_of_its_own():
    ahead = FetchAhead(Fetches(), num_threads=2, is_at_hand=nothing)
    ahead.request([1])
    assert ahead.take(1) == b"1"
    here, there = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=_take_in_child, args=(ahead, there))
    child.start()
    assert here.poll(10), "the forked process waits for threads that stayed behind"
    assert here.recv() == b"4"
    child.join()
