"""Which modules a command imports, as Python itself lists them."""

import subprocess
import sys
from pathlib import Path

LIST_IMPORTS = ("-X", "importtime")  # Python's options


def imported_modules(errors: str) -> set[str]:
    """Returns the names in what a command wrote as errors under LIST_IMPORTS."""
    lines = [line for line in errors.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def help_and_imports(script: Path, cwd: Path) -> tuple[str, set[str]]:
    """Returns what a command prints under --help, and the modules that it imported for that."""
    command = [sys.executable, *LIST_IMPORTS, str(script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=True)
    return done.stdout, imported_modules(done.stderr)
