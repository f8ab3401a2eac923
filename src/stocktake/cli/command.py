"""The way into every command: what was typed is read and checked, then one line says what begins, then the work.

All of it happens before torch is imported, so that a mistake is explained within a second or two.
"""

import errno
import functools
import inspect
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stocktake.cli.error_handling import EXIT_CTRL_C, handle_errors, missing_package

if TYPE_CHECKING:
    from omegaconf import DictConfig as Config
else:
    Config = Any  # what a command is given; Hydra and OmegaConf come only once Ctrl-C ends in one line

LEAST_ROOM = 2**16  # bytes that a run's folder must hold before anything is begun
Message = str | Callable[[Any], str]
Task = Callable[[Any], Any]


def command(
    name: str, begins_with: Message, *, conf: str = "../conf", kept: Message = ""
) -> Callable[[Task], Callable[[], None]]:
    """Makes a command of a function of a configuration: `@hydra.main`, with checked overrides and errors of one line.

    Args:
        name: Of the configuration file, and of the rules in cli/command_keys.py.
        begins_with: The first line, on stderr; a function is given the configuration.
        conf: Folder of the configuration file, seen from the file that the function stands in.
        kept: What Ctrl-C leaves, and how to go on; a function is given the configuration.
    """

    def decorate(task: Task) -> Callable[[], None]:
        import hydra

        from stocktake.cli.command_keys import COMMANDS

        inputs, is_sweep = COMMANDS[name], False
        config_dir = (Path(inspect.getfile(task)).parent / conf).resolve()

        @functools.wraps(task)
        def run(cfg: Any) -> Any:
            with handle_errors(is_sweep, kept=lambda: _text(kept, cfg)):
                return task(cfg)

        start = hydra.main(version_base="1.3", config_path=conf, config_name=name)(run)

        @functools.wraps(task)
        def main() -> None:
            nonlocal is_sweep
            _open_closed_outputs()
            with handle_errors():
                try:
                    begins, is_sweep = _prepare(config_dir, name, sys.argv[1:], inputs, begins_with)
                except ValueError as error:
                    _tell_other_ranks(error)
                    raise
                if begins and os.environ.get("RANK", "0") == "0":
                    print(begins, file=sys.stderr, flush=True)
                if begins is None:  # a page of help, of which `| head` reads the beginning
                    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                start()

        return main

    return decorate


def _prepare(
    config_dir: Path, name: str, typed: Sequence[str], inputs: Any, begins_with: Message
) -> tuple[str | None, bool]:
    """Checks what was typed; returns the first line, None for a page of help, and whether it is a sweep.

    Raises:
        OverrideError: Something that was typed cannot be taken.
    """
    from hydra._internal.utils import get_args_parser

    from stocktake.cli.overrides import check_overrides, read_overrides

    parsed, further = get_args_parser().parse_known_args(typed)
    if parsed.experimental_rerun is not None:
        raise ValueError("--experimental-rerun reads a pickle, which can run code. Type the run's overrides again.")
    modes = [f"--{mode}" for mode in ("multirun", "cfg", "info", "run") if getattr(parsed, mode)]
    if len(modes) > 1:
        raise ValueError(f"{' and '.join(modes)} do not go together. Type one of them; --cfg job shows a single run.")
    if parsed.resolve and not (parsed.cfg or parsed.help):
        raise ValueError("--resolve shows nothing by itself. Type --cfg job --resolve.")
    if (
        parsed.hydra_help
        or parsed.info
        or parsed.shell_completion
        or (parsed.help and not (parsed.overrides or further))
    ):
        return None, False
    is_ours = parsed.config_name in (None, name) and not (parsed.config_path or parsed.config_dir)
    if not is_ours:  # somebody's own tree, which Hydra judges
        return "", parsed.multirun
    config = read_overrides(config_dir, name, [*parsed.overrides, *further], inputs, parsed.multirun)
    if parsed.cfg or parsed.help:
        return None, False
    check_overrides(config, config_dir, parsed.overrides, inputs, parsed.multirun)
    if "run_dir" in config:
        _make_run_dir(parsed.overrides, "hydra.sweep.dir" if parsed.multirun else "hydra.run.dir")
    return _text(begins_with, config), parsed.multirun


def _make_run_dir(typed: Sequence[str], key: str) -> None:
    """Makes the run's folder, or of the usual one the folder above it, because Hydra would end with a trace.

    Raises:
        OverrideError: It cannot be made.
    """
    from stocktake.cli.overrides import OverrideError, plain_value
    from stocktake.shell import override

    folder = os.environ.get("RUN_DIR") or "runs"
    for argument in typed:
        if argument.startswith(f"{key}="):
            folder = plain_value(argument)
    if "${" in folder:
        return
    try:
        if not folder:
            raise ValueError("it is empty")
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with tempfile.TemporaryFile(dir=folder) as probe:  # on a full disk Hydra's first file would end with a trace
            probe.write(bytes(LEAST_ROOM))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OverrideError(
            f"{override(key, folder)}: the run cannot be written there ({reason}). "
            f"Type {key}=<a folder that can be written>."
        ) from error


def _text(message: Message, config: Any) -> str:
    from omegaconf.errors import OmegaConfBaseException

    try:
        return message(config) if callable(message) else message
    except OmegaConfBaseException:  # a value such as ${hydra:job.num}, known only once the run has begun
        return "Begins ..."


def _tell_other_ranks(error: ValueError) -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from stocktake.agreement import Agreement  # and torch

        Agreement.tell_others(error)


def _open_closed_outputs() -> None:
    """Gives a process that was started with `>&-` or `2>&-` somewhere to write to: print would take the other one."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends


def _end_early(hook: Callable, kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C, or a missing package, while libraries are being imported: one line instead of where the import stood."""
    if message := missing_package(error):
        print(message, file=sys.stderr)
        return
    if issubclass(kind, KeyboardInterrupt):
        print("\nStopped by Ctrl-C before anything was done.", file=sys.stderr, flush=True)
        os._exit(EXIT_CTRL_C)
    hook(kind, error, trace)


sys.excepthook = functools.partial(_end_early, sys.excepthook)  # before the first import that takes a while
