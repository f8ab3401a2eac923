"""What is said when a process that loads images is lost: never only that it is gone."""

import os
import pickle
import queue
import signal
import sys

import pytest
from torch.utils.data import Dataset

from stocktake.data.loading.dataset import BatchLoader
from stocktake.data.loading.workers import WorkerLost, named_end, worker_context

pytestmark = pytest.mark.integration  # processes of workers


class Fatal(Dataset):
    """Ends the process that asks it for the second batch."""

    def __init__(self, end):
        self.end = end

    def __len__(self):
        return 4

    def __getitem__(self, row):
        if row == 1:
            os._exit(self.end) if self.end >= 0 else os.kill(os.getpid(), -self.end)
        return {"counts": [row]}


@pytest.mark.parametrize(
    ("end", "told"),
    [(-signal.SIGKILL, r"killed by SIGKILL, as .* when memory runs out"), (3, r"exit code 3")],
)
@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_worker_that_ended_is_named_with_its_end(end, told):
    loader = BatchLoader(Fatal(end), batch_size=None, num_workers=1, multiprocessing_context=worker_context())
    with pytest.raises(WorkerLost, match=rf"{told}.*data\.num_workers=0"):
        list(loader)


def lost(error, cause=None):
    if cause is not None:
        raise error from cause
    raise error
    yield


@pytest.mark.parametrize(
    ("error", "cause", "told"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), None, "ConnectionResetError: .*reset by peer"),
        (EOFError(), None, r"\(EOFError\)"),
        (pickle.UnpicklingError("invalid load key"), None, "UnpicklingError: invalid load key"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), OSError(24, "many files"), "many files"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), queue.Empty(), "exited unexpectedly"),
        (RuntimeError("Too many open files. Communication is no longer possible"), None, "Too many open files"),
    ],
)
def test_a_damaged_connection_ends_with_the_reason(error, cause, told):
    with pytest.raises(WorkerLost, match=told):
        list(named_end(lost(error, cause), ()))


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"):
        list(named_end(lost(RuntimeError("shape")), ()))
    assert list(named_end(iter([1, 2]), ())) == [1, 2]
