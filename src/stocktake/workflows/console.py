"""What a person sees in the terminal: this project's words, without the libraries' advertisements."""

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator

from omegaconf.errors import MissingMandatoryValue


def quieten() -> None:
    """Drops messages of Lightning's that are about other products or that nobody here can act on."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda record: "💡 Tip" not in str(record.msg))
    # The finders read back a file that they have just written themselves.
    connector = logging.getLogger("pytorch_lightning.trainer.connectors.checkpoint_connector")
    connector.addFilter(lambda record: "`weights_only` was not set" not in str(record.msg))
    # A hub that does not answer is told once, by the error, and not at each of five tries.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    # Metrics of torchmetrics have been summed over the ranks already.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # Throughput is wanted in images per second; no FLOPs are claimed.
    warnings.filterwarnings("ignore", message=".*flops_per_batch.*")
    # Lightning 2.6 against torch 2.15; gone with the next Lightning.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # The data module resumes to the batch (its state is in the checkpoint), which Lightning cannot see.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # Small runs have fewer batches in an epoch than steps between two log lines.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # A resumed run writes into the folder of its own earlier checkpoints, which is what is wanted.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Ends the command with the message alone where this project raised the error on purpose.

    HYDRA_FULL_ERROR=1 shows the whole trace. In a sweep the error is Hydra's to handle, and under torchrun the trace
    goes to whoever started the job.
    """
    try:
        yield
    except Exception as error:
        is_elsewhere = "TORCHELASTIC_RUN_ID" in os.environ or {"-m", "--multirun"} & set(sys.argv)
        message = None if is_elsewhere or os.environ.get("HYDRA_FULL_ERROR") == "1" else _own_message(error)
        if message is None:
            raise
        print(f"\n{message}", file=sys.stderr)
        sys.exit(1)


def _own_message(error: BaseException | None) -> str | None:
    """Returns the message of the first error in the chain that this package's own code raised about its input."""
    while error is not None:
        frames = list(traceback.walk_tb(error.__traceback__))
        raised_in = frames[-1][0].f_globals.get("__name__", "") if frames else ""
        if isinstance(error, MissingMandatoryValue):
            return f"{error.full_key} is missing. Type {error.full_key}=<value>; --help tells which."
        if isinstance(error, ValueError | OSError) and raised_in.startswith("stocktake."):
            return str(error)
        error = error.__cause__
    return None
