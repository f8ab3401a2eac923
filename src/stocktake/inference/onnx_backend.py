"""Pictures counted by an exported model, on all cores and without torch."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from stocktake.images.decoding import read_pixels
from stocktake.inference.prediction import Answer
from stocktake.serving.predictor import Predictor


class OnnxCounting:
    """An exported model folder, asked for one picture in each of as many threads as there are cores."""

    def __init__(self, folder: str):
        self.predictor = Predictor.open(folder, num_threads=1)
        self.counts = self.predictor.counts

    def answers(self, found: Sequence[str | Answer], read: Callable[[str], bytes]) -> Iterator[Answer]:
        """Yields one answer a place, in order."""

        def count(place: str | Answer) -> Answer:
            if isinstance(place, Answer):
                return place
            try:
                pixels_HW3 = read_pixels(read(place))
                return Answer.of(place, self.counts, self.predictor.probabilities(pixels_HW3).tolist())
            except Exception as error:  # ONNX Runtime's errors have no other base; the pictures after it still count
                return Answer.unread(place, error)

        # Decoding and the network both leave Python's lock to the others.
        with ThreadPoolExecutor(os.cpu_count(), "count") as threads:
            yield from threads.map(count, found)
