"""Ends what was started when somebody ends this program: instances live in sessions of their own, and would run on."""

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

# What `kill`, `timeout`, a CI system and a closed terminal send, and Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextmanager
def unwinding() -> Iterator[None]:
    """Makes a signal that would end the process leave every context first, and exit with 128 and its number.

    The first one counts, because a whole group of processes is often told several times, and a second signal must
    not cut the ending of the children short. Only Ctrl-C is heard again.
    """
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield
        return
    # What is ignored stays so: who starts a program with nohup wants it to outlive the terminal.
    numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def leave(number: int, _: FrameType | None) -> None:
        for each in numbers:
            if each is not signal.SIGINT:
                signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def run_child(command: Sequence[str]) -> int:
    """Runs a command to its end and returns its exit code; within `unwinding` it is ended, and waited for, first.

    `subprocess.run` would kill it a quarter of a second after Ctrl-C, before it has ended its own children.
    """
    process = subprocess.Popen(command)  # noqa: S603 - arguments, no shell
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
