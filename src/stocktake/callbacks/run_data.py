"""The run's data inside each checkpoint, and no checkpoint resumed on other data or, unsaid, by other code."""

import sys
from collections.abc import Callable
from typing import Any, Protocol

from pytorch_lightning import Callback, LightningModule, Trainer

from stocktake.agreement import Agreement, code_sha256

CODE_KEY = "stocktake_code"  # where the digest of the code lies in a checkpoint


class OtherData(ValueError):
    """A run folder holds a checkpoint that was trained on other data."""


class Identity(Protocol):
    """What a run was trained on, as `stocktake.data.identity.DataIdentity` says it."""

    @property
    def manifest_sha256(self) -> str: ...

    @property
    def num_train_bins(self) -> int: ...

    def to_state(self) -> dict[str, Any]: ...


class RunData(Callback):
    """Ties a run to its data: ranks compare it before the first step, checkpoints keep it, resuming checks it."""

    def __init__(self, key: str, identify: Callable[[], Identity], agreement: Agreement):
        """
        Args:
            key: Where it lies in a checkpoint.
            identify: Returns the identity of the training bins; called once, when they are there.
            agreement: This rank among the others.
        """
        self.key, self.identify, self.agreement = key, identify, agreement
        self.identity: Identity | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or self.identity is not None:
            return
        self.identity = self.identify()
        self.agreement.agree(
            "data",
            {"manifest.parquet": self.identity.manifest_sha256[:16], "training bins": self.identity.num_train_bins},
            "Give all ranks the same dataset root (data.root=s3://bucket/folder), or copy it to each.",
        )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert self.identity is not None, "known from the setup of a fit on"
        checkpoint[self.key] = self.identity.to_state()
        checkpoint[CODE_KEY] = code_sha256()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert self.identity is not None, "known from the setup of a fit on"
        if self.key not in checkpoint:
            _tell(trainer, "This run began before checkpoints kept their data: whether it is the same is not known.")
        else:
            refuse_other_data(checkpoint[self.key]["manifest_sha256"], self.identity.manifest_sha256)
        if checkpoint.get(CODE_KEY, code_sha256()) != code_sha256():
            _tell(trainer, "This run was begun by another version of the code: it need not end as it would have.")


def refuse_other_data(before: str, now: str) -> None:
    """Refuses to go on with a run on another dataset.

    Args:
        before: sha256 of the manifest that the run was begun with.
        now: That of the dataset root as it is.

    Raises:
        OtherData: They differ.
    """
    if before != now:
        raise OtherData(
            f"This run was begun on another dataset: manifest.parquet was {before[:16]}, is {now[:16]} (sha256). "
            "Type the data.root of before, or run_name=<new> to start another run beside it."
        )


def _tell(trainer: Trainer, message: str) -> None:
    if trainer.is_global_zero:
        print(message, file=sys.stderr)
