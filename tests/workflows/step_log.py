"""A callback for tests: says in a file what a training is doing, so that it can be stopped in the middle of it."""

import time
from pathlib import Path

from pytorch_lightning import Callback


class StepLog(Callback):
    def __init__(self, path: str, pause_s: float = 0.0):
        self.path, self.pause_s = Path(path), pause_s

    def say(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")
        time.sleep(self.pause_s)

    def on_train_batch_end(self, trainer, *_) -> None:
        self.say(f"step {trainer.global_step}")

    def on_validation_batch_end(self, trainer, *_) -> None:
        self.say(f"validating {trainer.global_step}")

    def on_save_checkpoint(self, trainer, *_) -> None:
        self.say(f"saving {trainer.global_step}")
