"""The best weights of a run, which nothing that happens to the machine takes away."""

import sys

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from stocktake.model.torch_files import load_plain
from stocktake.run_folder import BEFORE_NAME, BEST_NAME
from stocktake.storage import Folder, StorageOptions


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights that did best in a validation as `best.ckpt`, and those that were best before them.

    A resumed run takes the best score from what lies in the folder, whatever checkpoint it goes on from: a validation
    after that checkpoint is not forgotten, and a worse one never takes its place.
    """

    def __init__(self, dirpath: str, monitor: str, mode: str, storage: StorageOptions | None = None):
        """
        Args:
            dirpath: Folder or s3:// URL of the checkpoints.
            monitor: Metric of the validation, such as `valid/accuracy`.
            mode: `max` or `min`.
            storage: Reaches checkpoints in S3.
        """
        super().__init__(
            dirpath=dirpath,
            filename=BEST_NAME.removesuffix(self.FILE_EXTENSION),
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=False,  # with the validation, so that a checkpoint after it knows the best
            enable_version_counter=False,
        )
        self.folder = Folder(dirpath, storage or StorageOptions())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        if trainer.ckpt_path is not None:
            score = self._kept_score() if trainer.is_global_zero else None
            self._take(trainer.strategy.broadcast(score), trainer)

    def _kept_score(self) -> float | None:
        """Returns the score of `best.ckpt`; where that is not whole, the one before takes its place."""
        reasons = []
        for name in (BEST_NAME, BEFORE_NAME):
            try:
                score = self._score_in(self.folder.read(name))
            except FileNotFoundError:
                reasons.append(f"{name} is not there")
            except ValueError as error:
                reasons.append(f"{name} is not whole ({error})")
            else:
                if name == BEFORE_NAME:
                    self.folder.copy(BEFORE_NAME, BEST_NAME)
                    print(f"{reasons[0]}: {BEFORE_NAME}, {self.monitor} {score:.4f}, takes its place.", file=sys.stderr)
                return score
        if self.best_model_path:
            print(f"{'; '.join(reasons)}: the next validation's takes its place.", file=sys.stderr)
        return None

    def _score_in(self, content: bytes) -> float:
        """Returns the score that the weights in a best checkpoint got.

        Raises:
            ValueError: It is cut off, or no best checkpoint of this metric.
        """
        try:
            states = load_plain(content)["callbacks"].values()
            return next(
                float(state["best_model_score"])
                for state in states
                if isinstance(state, dict) and state.get("monitor") == self.monitor
            )
        except StopIteration:
            raise ValueError(f"it holds no {self.monitor}") from None
        except Exception as error:  # torch raises a dozen different ones for a broken file
            raise ValueError((str(error) or type(error).__name__).splitlines()[0][:200]) from None

    def _take(self, score: float | None, trainer: Trainer) -> None:
        """Makes the score that was found the best so far."""
        self.best_k_models, self.best_model_path, self.kth_best_model_path = {}, "", ""
        self.best_model_score = self.current_score = None
        if score is not None:
            self.best_model_path = self.kth_best_model_path = self.format_checkpoint_name({})
            self.best_model_score = self.current_score = self.kth_value = torch.tensor(
                score, device=trainer.strategy.root_device
            )
            self.best_k_models = {self.best_model_path: self.best_model_score}

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if trainer.is_global_zero and self.folder.exists(BEST_NAME):
            self.folder.copy(BEST_NAME, BEFORE_NAME)
        super()._save_checkpoint(trainer, filepath)
