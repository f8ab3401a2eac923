"""How a command ends: with its own message, with 130 after Ctrl-C, or with an error's trace and its message last."""

import contextlib
import errno
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from stocktake.console import printable

EXIT_CTRL_C = 130  # 128 and the number of SIGINT, as shells have it
EXIT_UNREAD = 141  # the same of SIGPIPE
# What torch makes of an error in a worker: its trace as text, in the message of an error of the same type.
_IN_A_WORKER = re.compile(r"^Caught (\w+) in .*process \d+\.\nOriginal Traceback", re.MULTILINE)
_LAST_FRAME_AND_MESSAGE = re.compile(
    r'.*\n  File "([^"]+)", line \d+, in [^\n]*\n(?:    [^\n]*\n)*([\w.]+): (.*)', re.DOTALL
)


@contextlib.contextmanager
def handle_errors(is_sweep: bool = False, kept: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Ends the command with the message alone where this project raised the error on purpose.

    Of any other error the trace comes first and the message last. HYDRA_FULL_ERROR=1 shows the whole trace always.
    Under torchrun the error goes on to whoever started the job.

    Args:
        is_sweep: The other runs of a sweep go on. Of those that failed, Hydra tells the first when all are done.
        kept: After Ctrl-C, says what is kept and how to go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        end_interrupted(kept)
    except SystemExit as end:
        # Lightning puts its own exit code in the place of Ctrl-C.
        if isinstance(end.__context__, KeyboardInterrupt) and end.code != EXIT_CTRL_C:
            end_interrupted(kept)
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and (unread := _unread_outputs()):
            end_unread(unread, kept)
        if "TORCHELASTIC_RUN_ID" in os.environ or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        message = own_message(error)
        if message is None:
            traceback.print_exception(error)
            message = _type_and_message(error)
        if is_sweep:
            from hydra.errors import CompactHydraException

            line = f"\nThis run of the sweep failed, the others go on: {printable(message)}"
            print(line, file=sys.stderr, flush=True)
            raise CompactHydraException(message) from error
        print(f"\n{printable(message)}", file=sys.stderr)
        sys.exit(1)


def end_interrupted(kept: Callable[[], str] = lambda: "") -> None:
    """Ends the process as shells expect it after Ctrl-C, with one line of what is kept."""
    if os.environ.get("RANK", "0") == "0":
        print(f"\nStopped by Ctrl-C. {kept()}".rstrip(), file=sys.stderr, flush=True)
    sys.exit(EXIT_CTRL_C)


def end_unread(outputs: Sequence[TextIO], kept: Callable[[], str] = lambda: "") -> None:
    """Ends the process quietly where nobody reads its output any more, as behind `| head`."""
    for output in outputs:  # what is still to be written is written at the exit, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    if summary := kept():
        print(f"\nStopped, because nobody reads the output any more. {summary}", file=sys.stderr, flush=True)
    sys.exit(EXIT_UNREAD)


def _unread_outputs() -> list[TextIO]:
    """Returns those of stdout and stderr that lead into a pipe whose other end is closed."""
    outputs = []
    for output in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # no file at all
            pipe = select.poll()
            pipe.register(output.fileno(), 0)
            outputs += [output for _, event in pipe.poll(0) if event & (select.POLLERR | select.POLLHUP)]
    return outputs


def missing_package(error: BaseException | None) -> str | None:
    """Returns what to type where a package is missing, as in a Python that is not the project's."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not package or package in ("stocktake", "hydra_plugins"):  # a fault of the project's own
        return None
    return (
        f"The package {package} is missing in this Python ({sys.executable}). Type: make setup && . .venv/bin/activate "
        "(python scripts/doctor.py says what else is missing)."
    )


def own_message(error: BaseException | None) -> str | None:
    """Returns the message of the first error in the chain that this package's own code raised about its input."""
    if message := missing_package(error):
        return message

    from hydra.errors import InstantiationException  # later than Ctrl-C can be reported in one line
    from omegaconf.errors import MissingMandatoryValue

    while error is not None:
        frames = list(traceback.walk_tb(error.__traceback__))
        raised_in = frames[-1][0].f_globals.get("__name__", "") if frames else ""
        if isinstance(error, MissingMandatoryValue):
            return f"{error.full_key} is missing. Type {error.full_key}=<value>; --help tells which."
        if isinstance(error, InstantiationException):
            return " ".join(str(error).split())
        if isinstance(error, ValueError | OSError) and raised_in.startswith(("stocktake.", "hydra_plugins.stocktake")):
            return str(error)
        if message := _worker_message(str(error)):
            return message
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            where = error.filename or "The output"
            return f"{where} cannot be written: no space is left there. Make room, or write elsewhere."
        error = error.__cause__
    return None


def _worker_message(text: str) -> str | None:
    """Returns the message of an error that this project's code raised in a process that reads images."""
    if not _IN_A_WORKER.search(text):
        return None
    found = _LAST_FRAME_AND_MESSAGE.fullmatch(text.strip("\n"))
    return found[3].strip() if found and "/stocktake/" in found[1].replace("\\", "/") else None


def _type_and_message(error: BaseException) -> str:
    """Returns the type and message of an error; of one in a worker those that it had there."""
    found = _LAST_FRAME_AND_MESSAGE.fullmatch(str(error).strip("\n")) if _IN_A_WORKER.search(str(error)) else None
    return f"{found[2]}: {found[3].strip()}" if found else "".join(traceback.format_exception_only(error)).strip()
