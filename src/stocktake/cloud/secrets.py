"""What looks like a secret: nothing of the kind goes into a request, which many people may read, or onto a screen."""

import re
import shlex
from collections.abc import Mapping, Sequence

NAME = re.compile(
    r"(^|_)((api|access|secret|private|ssh|auth)?_?keys?(_id)?|tokens?|secrets?|password|passwd|passphrase|pwd|pat|"
    r"credentials?)$",
    re.IGNORECASE,
)
# The starts are their givers' own: AWS, W&B, Hugging Face, GitHub, GitLab, OpenAI and its like, Slack, Google.
VALUE = re.compile(
    r"(AKIA|ASIA)[0-9A-Z]{16}|wandb_v\d_\w{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|"
    r"sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.|-----BEGIN [A-Z ]*PRIVATE KEY|"
    r"://[^/\s:@]+:[^/\s@]+@"
)
HEX_KEY = re.compile(r"[0-9a-f]{40}")  # W&B's older keys; a git commit looks the same
COMMIT_NAME = re.compile(r"commit|sha|revision|hash", re.IGNORECASE)
NO_SECRETS = {"WANDB_SECRET_ID"}  # the name of a secret, by which the job asks for it
MASK = "***"


def looks_secret(name: str, value: str = "") -> bool:
    """Whether a variable or a key of the configuration holds a secret, going by its name and its value."""
    name = name.rpartition(".")[2]
    if name in NO_SECRETS:
        return False
    is_hex_key = bool(HEX_KEY.fullmatch(value)) and not COMMIT_NAME.search(name)
    return bool(NAME.search(name) or VALUE.search(value)) or is_hex_key


def masked(values: Mapping[str, str]) -> dict[str, str]:
    """Returns `values` with the secrets covered."""
    return {name: MASK if looks_secret(name, str(value)) else value for name, value in values.items()}


def typed_command(arguments: Sequence[str]) -> str:
    """Returns what was typed, as a page may show it: quoted for a shell, and with the secrets covered.

    Args:
        arguments: `sys.argv`.
    """
    return shlex.join(["python", *map(masked_override, arguments)])


def masked_override(override: str) -> str:
    """Returns an override `key=value` with its value covered if it is a secret."""
    key, sign, value = override.partition("=")
    return f"{key}={MASK}" if sign and looks_secret(key, value) else override
