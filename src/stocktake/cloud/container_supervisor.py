"""Runs the commands of a training container one after the other, and hears SageMaker's signal in their place.

Uploaded beside container.py, so it has nothing but the standard library, too.
"""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h
# A host that was told to end, or whose peer is gone, waits this long for SageMaker to end it.
LAST_WAIT_S = 150
# What it logs then: a rehearsal need not wait any longer.
WAITS = "All is saved; waiting to be ended."


class Supervisor:
    """Runs one child at a time and passes SIGTERM on to it."""

    def __init__(self):
        self.num_signals = 0
        self.child = None
        signal.signal(signal.SIGTERM, self._terminate)

    @property
    def terminated(self) -> bool:
        return self.num_signals > 0

    def _terminate(self, *_):
        self.num_signals += 1
        if self.child is not None:
            self.child.terminate()

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
        if self.terminated:
            return INTERRUPTED
        self.child = subprocess.Popen(command, cwd=folder, env=environment)  # noqa: S603 - arguments, no shell
        if self.terminated:  # the signal came between the two lines above
            self.child.terminate()
        return self.child.wait()

    def wait_to_be_ended(self) -> None:
        """Waits for SageMaker to end this host: to exit first could be taken for a failure, or for completion.

        A host whose peer was taken away or failed comes here before its own signal. A second signal ends the wait.
        """
        if not self.terminated:
            self._wait_for_signal()
        if self.terminated:
            print(WAITS, flush=True)
            self._wait_for_signal()

    def _wait_for_signal(self) -> None:
        seen, end = self.num_signals, time.monotonic() + LAST_WAIT_S
        while self.num_signals == seen and time.monotonic() < end:
            time.sleep(0.1)
