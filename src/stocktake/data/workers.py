"""How the processes that fetch and decode are started, and how they end."""

import contextlib
import gc
import multiprocessing
import os
import threading
from multiprocessing import forkserver
from multiprocessing.context import BaseContext


def worker_context() -> BaseContext:
    """Returns where a DataLoader gets its workers from: a server that never used obstore.

    obstore's threads do not survive a fork. The server imports once what every worker needs (torch takes seconds),
    and this starts it at once, so that it does so while the model is still being built.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "stocktake.data.stream"])
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
        take_long_turns()
        # What was imported stays: without this, Python's garbage collector goes through all of it again and again.
        gc.freeze()
        threading.Thread(target=_end_with_the_trainer, daemon=True).start()


def take_long_turns() -> None:
    """Makes this thread wait its turn when an image has come for it, instead of interrupting others' decoding."""
    # Linux alone knows it, and some sandboxes forbid it; without, it is only slower.
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_the_trainer() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
