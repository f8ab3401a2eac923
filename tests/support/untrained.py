"""Checkpoints as a run leaves them, of networks that nobody trained."""

import io
import zipfile

import torch

from stocktake.callbacks.calibration import CALIBRATION_KEY
from stocktake.callbacks.run_config import CONFIG_KEY
from stocktake.config import build
from stocktake.data.identity import DATA_KEY
from stocktake.metrics.calibration import Calibration

COUNTS = [1, 2, 3, 4, 5]
CALIBRATION = Calibration(temperature=1.7, coverage=0.9, threshold=0.1, counts=COUNTS, num_images=50)
HEADS = {"softmax": "SoftmaxHead", "soft": "SoftLabelHead", "corn": "CornHead"}


def write_checkpoint(
    folder, root, head="softmax", resize="squash", calibration=CALIBRATION, seed=0, data=None, **model
):
    """Saves a run's checkpoint: a network that was never trained, but is loud enough to tell pictures apart.

    Args:
        data: The `DataIdentity` that it claims to have been trained on; `None` for a file from before that was kept.
    """
    config = {
        "name": "tried",
        "model": {
            "_target_": "stocktake.model.counter.BinCounter",
            "backbone": "test_resnet",
            "weights": "none",
            "counts": COUNTS,
            "head": {"_target_": f"stocktake.model.heads.{HEADS[head]}"},
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.3, 0.4],
            **model,
        },
        "data": {
            "_target_": "stocktake.data.datamodule.BinDataModule",
            "root": str(root),
            "image_size_px": 32,
            "resize": resize,
            "counts": COUNTS,
            "seed": 0,
        },
    }
    torch.manual_seed(seed)
    network = build(config["model"])
    torch.nn.init.normal_(network.backbone.get_classifier().weight, std=0.3)
    state = {"state_dict": network.state_dict(), CONFIG_KEY: config}
    if calibration is not None:
        state[CALIBRATION_KEY] = calibration.to_dict()
    if data is not None:
        state[DATA_KEY] = data.to_state()
    path = folder / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def turned(content: bytes) -> bytes:
    """Returns a file of torch's with one bit of its largest tensor turned, as a worn disk does."""
    largest = max(zipfile.ZipFile(io.BytesIO(content)).infolist(), key=lambda entry: entry.file_size)
    spoilt = bytearray(content)
    spoilt[largest.header_offset + 200 + largest.file_size // 2] ^= 0x40
    return bytes(spoilt)
