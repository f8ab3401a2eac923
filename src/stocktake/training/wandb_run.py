"""One W&B run for each training: the same one after an interruption, a new one for each job of a sweep."""

import contextlib
import os
import secrets
import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_info
from omegaconf import DictConfig, open_dict

from stocktake.agreement import is_first_rank
from stocktake.diagnostics.credentials import wandb_key_source
from stocktake.storage import Folder

ID_NAME = "wandb-run-id"
SERVER = "https://api.wandb.ai"
TIMEOUT_S = 5  # W&B itself tries for 90 s, and then ends the training


def prepare_wandb(node: DictConfig, run_dir: Path, is_resumed: bool) -> None:
    """Settles the logger's `offline: auto`, and its run's id, which lies in the run folder from its first start on.

    Raises:
        ValueError: `logger.wandb.offline=false`, and no key is here.
    """
    import wandb  # as late as can be: it takes a second

    wandb.setup()  # heeds WANDB_SILENT, which a setting of Lightning's is otherwise told before
    with open_dict(node):
        if node.get("offline") == "auto":
            node.offline = not _is_reachable() if wandb_key_source() else True
        if node.get("offline"):
            node.mode = "offline"  # Lightning's variable comes too late for a W&B that is set up
        elif not wandb_key_source() and os.environ.get("WANDB_MODE", "online") == "online":
            raise ValueError(
                "logger.wandb.offline=false, but no W&B key is here. Type wandb login, or logger.wandb.offline=auto."
            )
        # The launcher names each job's run; W&B takes that name from the environment.
        if node.get("id") is None and is_first_rank() and "WANDB_RUN_ID" not in os.environ:
            node.id = _run_id(run_dir, is_resumed)


def _run_id(run_dir: Path, is_resumed: bool) -> str:
    path = run_dir / ID_NAME
    if is_resumed and path.is_file():
        return path.read_text().strip()
    run_id = secrets.token_hex(4)
    Folder(str(run_dir)).write(ID_NAME, f"{run_id}\n".encode())
    return run_id


def _is_reachable() -> bool:
    """Whether W&B's server answers anything at all; where not, says so."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return False
    server = os.environ.get("WANDB_BASE_URL", SERVER)
    try:
        with urllib.request.urlopen(f"{server}/healthz", timeout=TIMEOUT_S):  # noqa: S310 (the user's own setting)
            return True
    except urllib.error.HTTPError:
        return True  # an answer, be it a refusal
    except (OSError, ValueError) as error:
        if is_first_rank():
            reason = getattr(error, "reason", error)
            print(
                f"W&B's server {server} cannot be reached ({reason}): this run is logged offline; "
                "`wandb sync` sends it later.",
                file=sys.stderr,
            )
        return False


def tell_where() -> None:
    """Says where this process's run can be looked at, if it has one."""
    if "wandb" in sys.modules and (run := sys.modules["wandb"].run) is not None and is_first_rank():
        folder = shlex.quote(str(Path(run.dir).parent))
        rank_zero_info(f"W&B: offline; later: wandb sync {folder}" if run.offline else f"W&B: {run.url}")


@contextlib.contextmanager
def finished_wandb() -> Iterator[None]:
    """Closes the W&B run that was begun within, so that the next training of this process has its own."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish(exit_code=exit_code)
