"""Checkpoints that are there whole or not at all, on disk as in S3."""

import io
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from stocktake.storage import Folder, StorageOptions, is_s3, local_path, split_url


class CheckpointFiles(TorchCheckpointIO):
    """Writes each checkpoint beside the old one and gives it its name once it is whole.

    Lightning 2.6.6 writes to the system's temporary folder and moves the file from there. From another file system
    that is a copy onto the old checkpoint, which a kill or a full disk leaves empty or half.
    """

    def __init__(self, storage: StorageOptions | None = None):
        """
        Args:
            storage: Reaches checkpoints in S3.
        """
        super().__init__()
        self.storage = storage
        self._folders: dict[str, Folder] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str, storage_options: Any | None = None) -> None:
        """Writes a checkpoint whole or not at all.

        Raises:
            StorageError: It could not be written; what had its name is as it was.
        """
        url, name = split_url(str(path))
        folder = self._folders.setdefault(url, Folder(url, self.storage or StorageOptions()))
        content = io.BytesIO()
        torch.save(checkpoint, content)
        if not is_s3(url):
            for left in local_path(url).glob("*.ckpt#*"):  # what a killed process had begun to write beside
                left.unlink()
        folder.write(name, content.getvalue())
