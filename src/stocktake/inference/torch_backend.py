"""Images counted by a checkpoint, in batches, on a GPU where there is one.

Axes: B images of a batch, K counts that the model tells apart, S side of the square that the network sees.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from stocktake.checkpoints import Checkpoint
from stocktake.data.transforms import Resize, decode
from stocktake.inference.image_reader import READ_ERRORS
from stocktake.inference.prediction import Prediction
from stocktake.storage import StorageOptions

NUM_READERS = 8  # threads that fetch and decode the next batch while the network sees this one


class TorchBackend:
    """A checkpoint that says P(count), tempered if it holds its calibration."""

    def __init__(self, checkpoint: str, storage: StorageOptions, batch_size: int, device: str):
        opened = Checkpoint.open(checkpoint, storage)
        self.model, self.calibration, data = opened.model.to(_device(device)), opened.calibration, opened.config["data"]
        self.counts, self.batch_size = self.model.counts, batch_size
        self.resize = Resize(data["image_size_px"], data["resize"])

    def predict(self, images: Sequence[str | Prediction], read: Callable[[str], bytes]) -> Iterator[Prediction]:
        def load(image: str | Prediction) -> Tensor | Prediction:
            if isinstance(image, Prediction):
                return image
            try:
                return self.resize(decode(read(image)))
            except READ_ERRORS as error:
                return Prediction.unread(image, error)

        chunks = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        with ThreadPoolExecutor(NUM_READERS, "read") as readers:
            following = readers.map(load, chunks[0])
            for number, chunk in enumerate(chunks, start=1):
                loaded = list(following)
                if number < len(chunks):  # on its way while the network sees this one
                    following = readers.map(load, chunks[number])
                decoded = [image_CSS for image_CSS in loaded if isinstance(image_CSS, Tensor)]
                probabilities = iter(self._probabilities(decoded))
                for image, result in zip(chunk, loaded, strict=True):
                    if isinstance(result, Prediction):
                        yield result
                    else:
                        yield Prediction.of(str(image), self.counts, next(probabilities))

    @torch.inference_mode()
    def _probabilities(self, images: list[Tensor]) -> list[list[float]]:
        """Returns P(count) of every `image_CSS`, as B lists of K numbers."""
        if not images:
            return []
        images_BCSS = torch.stack(images).to(self.model.device)
        probabilities_BK = self.model.probabilities(images_BCSS).cpu()
        if self.calibration is None:
            return probabilities_BK.tolist()
        return self.calibration.apply(probabilities_BK.double().numpy())[0].tolist()


def _device(requested: str) -> torch.device:
    """Returns the device; `auto` is a GPU where there is one.

    Raises:
        ValueError: This machine has no such device.
    """
    present = [name for name, has in {"cuda": torch.cuda, "mps": torch.backends.mps}.items() if has.is_available()]
    present.append("cpu")
    if requested == "auto":
        return torch.device(present[0])
    if requested.partition(":")[0] not in present:
        raise ValueError(
            f"device={requested!r} is none of this machine's; it has {', '.join(present)}. Type device=auto."
        )
    return torch.device(requested)
