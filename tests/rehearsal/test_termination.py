"""A program that is ended ends its children first, whoever else of the group is told and however often."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from stocktake.rehearsal.termination import run_child, unwinding

# Starts a process in a session of its own, as an instance is, and ends it on the way out, which takes a while.
CHILD = """
import subprocess, sys, time
from stocktake.rehearsal.termination import unwinding
with unwinding():
    instance = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        print(instance.pid, flush=True)
        time.sleep(600)
    finally:
        time.sleep(0.5)
        instance.kill()
        instance.wait()
        print("ended", flush=True)
"""
PARENT = f"""
import sys
from stocktake.rehearsal.termination import run_child, unwinding
with unwinding():
    sys.exit(run_child([sys.executable, "-c", {CHILD!r}]))
"""


def started(*, ignored: int | None = None) -> tuple[subprocess.Popen, int]:
    """Returns the parent, in a group of its own, and the id of what its child started."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: heed_all_but(ignored),
    )
    assert process.stdout
    return process, int(process.stdout.readline())


def heed_all_but(ignored: int | None) -> None:
    """Whoever runs the tests may have been started by nohup, and what ignores a signal hands that down."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_children_are_ended_first(number, send):
    process, instance = started()
    send(process.pid, number)
    output, _ = process.communicate(timeout=20)
    assert output == "ended\n"
    assert process.returncode == (-signal.SIGINT if number == signal.SIGINT else 128 + number)
    assert not runs(instance)


def test_a_second_signal_does_not_cut_the_ending_short():
    process, instance = started()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=20)
    assert (output, process.returncode) == ("ended\n", 128 + signal.SIGHUP)
    assert not runs(instance)


def test_with_nohup_a_closed_terminal_ends_nothing():
    process, instance = started(ignored=signal.SIGHUP)
    os.killpg(process.pid, signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    assert runs(instance)
    process.terminate()
    assert process.communicate(timeout=20)[0] == "ended\n"


def test_the_handlers_of_before_are_back_and_an_exit_code_is_the_childs():
    before = signal.getsignal(signal.SIGTERM)
    with unwinding():
        assert signal.getsignal(signal.SIGTERM) is not before
        assert run_child([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert signal.getsignal(signal.SIGTERM) is before
