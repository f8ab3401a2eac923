"""A callback for tests: says in a file what a training is doing, so that it can be stopped in the middle of it."""

import os
import resource
import signal
import time
from pathlib import Path

from pytorch_lightning import Callback


class StepLog(Callback):
    """Writes a line for each step, each batch of a validation, and each checkpoint.

    KILLED_SAVE has the system kill the training within the write of the checkpoint with this number, once a file is
    past KILLED_AT_BYTES, as if the machine vanished. Both come by the environment: overrides must stay the same.
    """

    def __init__(self, path: str, pause_s: float = 0.0):
        self.path, self.pause_s, self.num_saves = Path(path), pause_s, 0

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
        self.num_saves += 1
        if self.num_saves == int(os.environ.get("KILLED_SAVE", 0)):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["KILLED_AT_BYTES"]), resource.RLIM_INFINITY))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python turns it into an error
