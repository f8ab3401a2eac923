"""Pictures counted by a checkpoint, in batches, on a GPU where there is one.

Axes: B images of a batch, K counts that the model tells apart, S side of the square that the network sees.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from stocktake.checkpoints import load_counter
from stocktake.data.transforms import Resize, decode
from stocktake.inference.image_reader import READ_ERRORS
from stocktake.inference.prediction import Answer
from stocktake.storage import StorageOptions

NUM_READERS = 8  # threads that fetch and decode the next batch while the network sees this one


class TorchCounting:
    """A checkpoint that says P(count), tempered if it holds its calibration."""

    def __init__(self, checkpoint: str, storage: StorageOptions, batch_size: int, device: str):
        self.model, config = load_counter(checkpoint, storage)
        self.model.to(_device(device))
        self.counts, self.batch_size = self.model.counts, batch_size
        self.resize = Resize(config["data"]["image_size_px"], config["data"]["resize"])

    def answers(self, found: Sequence[str | Answer], read: Callable[[str], bytes]) -> Iterator[Answer]:
        """Yields one answer a place, in order; the next batch is on its way while the network sees this one."""

        def load(place: str | Answer) -> Tensor | Answer:
            if isinstance(place, Answer):
                return place
            try:
                return self.resize(decode(read(place)))
            except READ_ERRORS as error:
                return Answer.unread(place, error)

        chunks = [found[start : start + self.batch_size] for start in range(0, len(found), self.batch_size)]
        with ThreadPoolExecutor(NUM_READERS, "read") as readers:
            following = readers.map(load, chunks[0])
            for number, chunk in enumerate(chunks, start=1):
                loaded = list(following)
                if number < len(chunks):
                    following = readers.map(load, chunks[number])
                images = [image_CSS for image_CSS in loaded if isinstance(image_CSS, Tensor)]
                probabilities = iter(self._probabilities(images))
                for place, result in zip(chunk, loaded, strict=True):
                    is_answer = isinstance(result, Answer)
                    yield result if is_answer else Answer.of(place, self.counts, next(probabilities))

    @torch.inference_mode()
    def _probabilities(self, images: list[Tensor]) -> list[list[float]]:
        """Returns P(count) of every `image_CSS`, as B lists of K numbers."""
        if not images:
            return []
        images_BCSS = torch.stack(images).to(self.model.device)
        probabilities_BK = self.model.probabilities(images_BCSS).cpu()
        if self.model.calibration is None:
            return probabilities_BK.tolist()
        return self.model.calibration.apply(probabilities_BK.double().numpy())[0].tolist()


def _device(wish: str) -> torch.device:
    """Returns the device; `auto` is a GPU where there is one.

    Raises:
        ValueError: This machine has no such device.
    """
    present = [name for name, has in {"cuda": torch.cuda, "mps": torch.backends.mps}.items() if has.is_available()]
    present.append("cpu")
    if wish == "auto":
        return torch.device(present[0])
    if wish.partition(":")[0] not in present:
        raise ValueError(f"device={wish!r} is none of this machine's; it has {', '.join(present)}. Type device=auto.")
    return torch.device(wish)
