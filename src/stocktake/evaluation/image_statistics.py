"""What the images of a split are like: image_statistics of every file, as columns beside the predictions."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy
import pyarrow
from rich.console import Console
from rich.progress import track

from stocktake.data.manifest import Manifest
from stocktake.data.transforms import UndecodableImage, decode
from stocktake.images.statistics import ImageStatistics, TrainingImages, measure_image
from stocktake.storage import Folder, join_url

NUM_READERS = 8  # threads that fetch, decode and measure; most of their time is the network's or a library's
NUM_SAMPLED = 300  # of the training images
CHUNK = 1024  # so many images are waited for at once, so that a large split is not queued whole
SCHEMA = pyarrow.schema(
    {
        "brightness": pyarrow.float64(),  # mean luma, 0 to 255
        "sharpness": pyarrow.float64(),  # variance of the Laplacian
        "strap_density": pyarrow.float64(),  # share of the pixels
        "width_px": pyarrow.int32(),
        "height_px": pyarrow.int32(),
    }
)


def measure_images(root: Folder, rows: pyarrow.Table) -> pyarrow.Table:
    """Returns the columns of SCHEMA for the images of a manifest's rows, in their order.

    Raises:
        UndecodableImage: A file is no image any more.
        StorageError: A file could not be read within the retry budget.
    """
    keys = rows["key"].to_pylist()
    measured = track(_measured(root, keys), "Measuring images", len(keys), console=Console(stderr=True))
    return pyarrow.Table.from_pylist([vars(statistics) for statistics in measured], schema=SCHEMA)


def measure_training_images(root: Folder, train_rows: pyarrow.Table, are_drawn: bool) -> TrainingImages:
    """Returns what the images that a model was trained on are like, from NUM_SAMPLED of them, evenly spread.

    Raises:
        UndecodableImage: A file is no image any more.
        StorageError: A file could not be read within the retry budget.
    """
    positions = numpy.linspace(0, train_rows.num_rows - 1, min(NUM_SAMPLED, train_rows.num_rows)).round().astype(int)
    keys = train_rows["key"].take(positions).to_pylist()
    return TrainingImages.of(list(_measured(root, keys)), are_drawn)


def are_drawn(manifest: Manifest, root: Folder) -> bool:
    """Whether a dataset root's bins are the drawings that this project makes there, and not photos."""
    return manifest.origin["source"] == join_url(root.url, "source")


def _measured(root: Folder, keys: list[str]) -> Iterator[ImageStatistics]:
    def measure(key: str) -> ImageStatistics:
        try:
            image_CHW = decode(root.read(key))
        except UndecodableImage as error:
            raise UndecodableImage(f"{join_url(root.url, key)}: {error}") from None
        return measure_image(image_CHW.permute(1, 2, 0).numpy())

    with ThreadPoolExecutor(NUM_READERS, "measure") as readers:
        for start in range(0, len(keys), CHUNK):
            yield from readers.map(measure, keys[start : start + CHUNK])
