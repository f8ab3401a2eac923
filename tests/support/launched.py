"""What is seen in the terminal of a command."""

import os
import select
import time


def read_until(terminal: int, text: str, timeout_s: float = 60) -> str:
    seen, deadline = "", time.monotonic() + timeout_s
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
    return seen
