"""A checkpoint's file is the old one or the new one, whatever happens while it is written."""

import resource
import tempfile
import threading
from pathlib import Path

import pytest
import torch

from stocktake.callbacks.checkpoint_files import CheckpointFiles


def test_a_reader_never_meets_half_a_checkpoint(tmp_path, monkeypatch):
    if Path("/dev/shm").is_dir():  # another file system: what is written there and moved from there is copied
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    path, files = tmp_path / "best.ckpt", CheckpointFiles()
    files.save_checkpoint({"weights": torch.zeros(10_000_000)}, str(path))
    sizes, is_over = {path.stat().st_size}, threading.Event()

    def look():
        while not is_over.is_set():
            sizes.add(path.stat().st_size)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        files.save_checkpoint({"weights": torch.zeros(20_000_000)}, str(path))
    finally:
        is_over.set()
        reader.join()
    assert sizes <= {min(sizes), path.stat().st_size}
    assert min(sizes) > 40_000_000


def test_a_disk_without_room_leaves_the_checkpoint_that_was_there(tmp_path):
    path, files = tmp_path / "best.ckpt", CheckpointFiles()
    files.save_checkpoint({"step": 1}, str(path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"best\.ckpt"):
            files.save_checkpoint({"step": 2, "weights": torch.zeros(1_000_000)}, str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_save_left_beside_is_removed(tmp_path):
    left = tmp_path / "step-00000003.ckpt#1"
    left.write_bytes(b"half of a checkpo")
    CheckpointFiles().save_checkpoint({"step": 4}, str(tmp_path / "step-00000004.ckpt"))
    assert not left.exists()
