"""Starts Pythons that have imported already what every one of them needs: a server that forks.

A test that starts a command waits seconds until its Python has imported Hydra and boto3. Here one process has imported
them, and forks for each command: the child runs the command's script as `python script words` would, with an
environment, a folder, and standard streams of its own. Python's variables, such as PYTHONWARNINGS, are not read anew.
"""

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread, active_count
from typing import TextIO


class Forked:
    """A process that the server started, as far as tests need of what subprocess.Popen has."""

    def __init__(self, events: TextIO, stdout: TextIO | None, stderr: TextIO | None):
        self.stdout, self.stderr, self.returncode = stdout, stderr, None
        if not (pid := events.readline()):
            raise OSError("the fork server has ended: see its trace above")
        self.pid = int(pid)
        self._end = _read_beside(events)  # of which the exit code comes once it has ended

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        self.returncode = int(self._end.result(timeout))
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        outputs = [_read_beside(stream) for stream in (self.stdout, self.stderr) if stream]
        output, errors = (read.result(timeout) for read in outputs)
        self.wait(timeout)
        return output, errors


def _read_beside(stream: TextIO) -> Future[str]:
    """Reads a stream to its end in a thread, which does not keep this process from its own."""
    content: Future[str] = Future()

    def read() -> None:
        with stream:
            content.set_result(stream.read())

    Thread(target=read, daemon=True).start()
    return content


class ForkServer:
    """A process that has imported modules and forks; ends with this one.

    Args:
        module: What it imports first: one that imports the others.
        path: Where it imports from, first of all.
    """

    def __init__(self, module: str, path: Sequence[Path]):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), module],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
                stdin=subprocess.DEVNULL,
            )

    def close(self) -> None:
        self._socket.close()
        self._process.wait(30)

    def start(self, words: Sequence[str], cwd: Path, env: Mapping[str, str], terminal: int | None = None) -> Forked:
        """Starts a script, the first of `words`, with a terminal as its streams, or a pipe for each."""
        events, theirs = os.pipe()
        pipes = [] if terminal else [os.pipe(), os.pipe()]
        nothing = os.open(os.devnull, os.O_RDONLY)
        streams = [terminal] * 3 if terminal else [nothing, *(pipe[1] for pipe in pipes)]
        try:
            request = json.dumps({"words": list(words), "cwd": str(cwd), "env": dict(env)}).encode()
            socket.send_fds(self._socket, [request], [theirs, *streams])
        finally:
            for descriptor in (theirs, nothing, *(pipe[1] for pipe in pipes)):
                os.close(descriptor)
        events, *outputs = (os.fdopen(descriptor) for descriptor in (events, *(pipe[0] for pipe in pipes)))
        return Forked(events, *(outputs or (None, None)))


def _next_command(connection: socket.socket) -> dict | None:
    """Forks for each request that comes: returns it in the child, and None in the server once there are no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how the waiting processes ended
    while True:
        content, descriptors, _, _ = socket.recv_fds(connection, 2**20, 4)
        if not content:
            return None
        if os.fork() == 0:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            events, *streams = descriptors
            if (child := os.fork()) == 0:
                os.close(events)
                for number, descriptor in enumerate(streams):
                    os.dup2(descriptor, number)
                    os.close(descriptor)
                return json.loads(content)
            for descriptor in streams:
                os.close(descriptor)
            os.write(events, f"{child}\n".encode())
            _, status = os.waitpid(child, 0)
            os.write(events, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(command: dict) -> str:
    """Makes this process what a new Python would be; returns its script."""
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["env"])
    script, *_ = sys.argv = command["words"]
    first = [str(Path(script).resolve().parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [*first, *(entry for entry in sys.path[1:] if entry not in first)]  # without the server's own folder
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w", 1 if os.isatty(1) else -1)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace")
    return script


if __name__ == "__main__":
    importlib.import_module(sys.argv[2])
    assert active_count() == 1, "a fork has the threads' locks, and not the threads"
    if (command := _next_command(socket.socket(fileno=int(sys.argv[1])))) is not None:
        runpy.run_path(_become(command), run_name="__main__")
