"""Images counted by an exported model, on all cores and without torch."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from stocktake.hardware import num_cores
from stocktake.images.decoding import read_pixels
from stocktake.inference.prediction import Prediction
from stocktake.serving.predictor import Predictor


class OnnxBackend:
    """An exported model folder, asked for one image in each of as many threads as there are cores."""

    def __init__(self, folder: str):
        self.predictor = Predictor.open(folder, num_threads=1)
        self.counts = self.predictor.counts

    def predict(self, images: Sequence[str | Prediction], read: Callable[[str], bytes]) -> Iterator[Prediction]:
        def count(image: str | Prediction) -> Prediction:
            if isinstance(image, Prediction):
                return image
            try:
                pixels_HW3 = read_pixels(read(image))
                return Prediction.of(image, self.counts, self.predictor.probabilities(pixels_HW3).tolist())
            except Exception as error:  # ONNX Runtime's errors have no other base; the images after it still count
                return Prediction.unread(image, error)

        # Decoding and the network both leave Python's lock to the others.
        with ThreadPoolExecutor(num_cores(), "count") as threads:
            yield from threads.map(count, images)
