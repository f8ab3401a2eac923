"""What a person sees in the terminal: messages of this project, without the libraries' advertisements; a question."""

import logging
import os
import sys
import warnings

# What Lightning tells at every start and end, by its first words, and why nobody here needs it.
UNWANTED = (
    "💡 Tip",  # advertises other products
    "GPU available",  # the line before the first step names the hardware
    "TPU available",
    "HPU available",
    "Using bfloat16 Automatic",  # the same line names the precision
    "`Trainer.fit` stopped: `max_",  # epochs, steps or time: that is what was asked for
    "Loading `train_dataloader` to estimate",  # the schedule wants to know the length
    "\nDetected KeyboardInterrupt",  # the last line says what is kept, and how to go on
)


def silence_library_warnings() -> None:
    """Drops messages of libraries that are about other products or that nobody here can act on."""
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    rank_zero.addFilter(lambda record: not str(record.msg).startswith(UNWANTED))
    # The finder of a learning rate keeps the weights in a file of its own, and reads them back.
    rank_zero.addFilter(lambda record: "/.lr_find_" not in str(record.msg))
    # Its history in the terminal repeats the validations' lines; where the run can be seen is printed at the end.
    os.environ.setdefault("WANDB_SILENT", "true")
    # The finders read back a file that they have just written themselves.
    connector = logging.getLogger("pytorch_lightning.trainer.connectors.checkpoint_connector")
    connector.addFilter(lambda record: "`weights_only` was not set" not in str(record.msg))
    # A hub that does not answer is reported once, by the error, and not at each of five tries.
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


def printable(text: str) -> str:
    """Returns a text as a terminal may show it: what would steer one, from a log or a server, is escaped."""
    shown = (one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)
    return "".join(shown)


def is_agreed(question: str, yes: bool) -> bool:
    """Asks a person before something is done; says so where the answer is no.

    Args:
        yes: Typed already, as `yes=true`.

    Raises:
        ValueError: Nobody is there to be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ValueError(f"{question} Nobody is here to be asked. Type yes=true to go on without a question.")
    has_agreed = input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    if not has_agreed:
        print("Nothing was done.")
    return has_agreed
