"""What a person sees in the terminal: this project's words, without the libraries' advertisements."""

import logging
import warnings


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
