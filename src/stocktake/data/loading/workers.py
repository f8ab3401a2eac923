"""How the processes that fetch and decode are started, and how they end."""

import contextlib
import gc
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pickle import UnpicklingError
from typing import TypeVar

Item = TypeVar("Item")


class WorkerLost(OSError):
    """A process that loads images ended, or what it sent could not be read."""


def worker_context() -> BaseContext:
    """Returns where a DataLoader gets its workers from: a server that never used obstore.

    obstore's threads do not survive a fork. The server imports once what every worker needs (torch takes seconds),
    and this starts it at once, so that it does so while the model is still being built.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "stocktake.data.loading.dataset"])
    forkserver.ensure_running()
    return context


class WorkerStart:
    """Gives a worker the trainer's environment and its end.

    The server that workers come from has the environment of the moment it was started, which may be before a
    profile or an endpoint was set; and torch ends orphans only if they are direct children of the trainer.
    """

    def __init__(self):
        self.environment = dict(os.environ)

    def __call__(self, _number: int) -> None:
        os.environ.update(self.environment)
        # One thread is enough to wait for the network; more of them only get in the way of the decoding.
        os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
        use_batch_scheduling()
        # What was imported stays: without this, Python's garbage collector goes through all of it again and again.
        gc.freeze()
        threading.Thread(target=_end_with_the_trainer, daemon=True).start()


def use_batch_scheduling() -> None:
    """Makes this thread wait its turn when an image has come for it, instead of interrupting others' decoding."""
    # Linux alone knows it, and some sandboxes forbid it; without, it is only slower.
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def named_end(batches: Iterable[Item], workers: Sequence[BaseProcess]) -> Iterator[Item]:
    """Yields the batches; where a worker is lost it says why, which torch does not ("exited unexpectedly").

    Raises:
        WorkerLost: With the worker's signal or exit code, or what was wrong with the connection to it.
    """
    try:
        yield from batches
    except (RuntimeError, EOFError, ConnectionError, UnpicklingError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(("DataLoader worker", "Too many open files")):
            raise
        ends = sorted({_end(worker.exitcode) for worker in workers if worker.exitcode})
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if not ends and not isinstance(cause, queue.Empty):
            ends = [f"{type(cause).__name__}: {cause}".strip(": ")]
        raise WorkerLost(
            f"A process that loads images was lost ({'; '.join(ends) or error}). Fewer of them need less memory: type "
            f"data.num_workers={len(workers) // 2}, or a smaller data.batch_size."
        ) from error


def _end(exit_code: int) -> str:
    """Returns how a process ended, and what is usually the cause."""
    if exit_code > 0:
        return f"exit code {exit_code}"
    causes: dict[int, str] = {
        signal.SIGKILL: ", as the system does when memory runs out",
        signal.SIGBUS: ", as happens when shared memory, /dev/shm, is full",
    }
    return f"killed by {signal.Signals(-exit_code).name}{causes.get(-exit_code, '')}"


def _end_with_the_trainer() -> None:
    if (trainer := multiprocessing.parent_process()) is not None:
        trainer.join()
        os._exit(1)
