"""What a person is asked to type: words that the shell and Hydra's grammar read back as the value they were made of."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Text that Hydra's grammar leaves alone; everything else is quoted.
_BARE = re.compile(r"[A-Za-z0-9_./@+-]+|[a-z0-9]+://[A-Za-z0-9_.@+-]*(:[0-9]+)?(/[A-Za-z0-9_./@+-]*)?")
_NOT_TEXT = re.compile(
    r"null|true|false|[+-]?[0-9][0-9_]*|[+-]?(inf|nan|[0-9_]*\.?[0-9_]*(e[+-]?[0-9_]+)?)", re.IGNORECASE
)


def override(key: str, value: Any) -> str:
    """Returns `key=value` as one word of the shell whose value Hydra reads back unchanged.

    Every message that tells a command goes through it, since folders hold spaces, brackets, commas and quotes:
    `override("root", "my bins [1]")` is `'root="my bins [1]"'`, `override("split", "test")` is `split=test`.
    Lists, dicts, numbers, booleans and None come in Hydra's own notation: `override("limit", None)` is `limit=null`.
    """
    return shlex.quote(f"{key}={hydra_value(value)}")


def command(script: str, values: Mapping[str, Any]) -> str:
    """Returns a whole line to type: `command("scripts/evaluate.py", {"checkpoint": path})`."""
    return " ".join(["python", shlex.quote(script), *(override(key, value) for key, value in values.items())])


def typed_again(*overrides: str) -> str:
    """Returns what this process was started with, to be typed again, with overrides in the place of those of their key.

    Args:
        overrides: `key=value` as Hydra reads it, not yet quoted for the shell.
    """
    keys = {argument.partition("=")[0] for argument in overrides}
    kept = [argument for argument in sys.argv[1:] if argument.partition("=")[0] not in keys]
    return shlex.join([*_started_with(), *kept, *overrides])


def _started_with() -> list[str]:
    """Returns what was typed before the overrides: `python train.py`, or `torchrun --nproc-per-node=2 train.py`."""
    arguments = sys.argv[1:]
    typed = _torchrun() if "TORCHELASTIC_RUN_ID" in os.environ else list(sys.orig_argv)
    start = typed[: len(typed) - len(arguments)]
    if not start or typed[len(start) :] != arguments or Path(start[-1]).name != Path(sys.argv[0]).name:
        return ["python", sys.argv[0]]  # the arguments were changed, or the process is not the command's own
    return start


def _torchrun() -> list[str]:
    """Returns the command line of the launcher that started this rank, where the system tells it (Linux does)."""
    try:
        typed = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")[:-1]
    except (OSError, ValueError):
        return []
    # The shell shows `python /somewhere/bin/torchrun` for the script that was typed as `torchrun`.
    return ["torchrun", *typed[2:]] if Path(typed[1]).name == "torchrun" else typed


def hydra_value(value: Any) -> str:
    """Returns a value in Hydra's grammar, without the shell's quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    text = str(value)
    return text if _BARE.fullmatch(text) and not _NOT_TEXT.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    # Without its backslash ${ would begin an interpolation. Other backslashes count only before a quote.
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    text = re.sub(r'(\\*)"', lambda found: found[1] * 2 + r"\"", text)
    return '"' + re.sub(r"(\\+)\Z", lambda found: found[1] * 2, text) + '"'
