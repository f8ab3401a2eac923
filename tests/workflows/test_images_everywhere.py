"""Every odd image, through every way to have it counted: the same P(count), or the same words."""

import hashlib

import numpy
import pyarrow
import pytest
from odd_images import READ, REFUSED
from served import listening
from untrained import write_checkpoint

from stocktake.checkpoints import Checkpoint
from stocktake.data.datamodule import BinDataModule
from stocktake.data.loading.sampler import BatchPlan
from stocktake.data.manifest import SCHEMA, Manifest
from stocktake.evaluation.predict_split import predict_split
from stocktake.images.decoding import UndecodableImage, read_pixels
from stocktake.serving.app import create_app
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder
from stocktake.workflows.export import export
from stocktake.workflows.predict import predict

IMAGES = READ | {name: content for name, (content, _) in REFUSED.items()}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoint(compose, synthetic_root, tmp_path_factory):
    """A small network with the folder `model` that is exported from it."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint = write_checkpoint(folder, synthetic_root, resize="letterbox")
    export(compose("export", f"checkpoint={checkpoint}", "num_checked=2", "version=2"))
    return checkpoint


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset root whose test bins are those images that are read, and whose valid bins the others; all as .jpg."""
    folder, rows = tmp_path_factory.mktemp("root"), []
    for number, (name, content) in enumerate(IMAGES.items()):
        split = "test" if name in READ else "valid"
        row = {"image_id": f"{number:03}", "key": f"data/{split}/3/{number:03}.jpg", "count": 3, "split": split}
        row |= {"group": str(number), "sha256": hashlib.sha256(content).hexdigest(), "label_source": "record"}
        (folder / row["key"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / row["key"]).write_bytes(content)
        rows.append(row | {"width": 70, "height": 45, "bytes": len(content), "num_products": 1})
    Manifest(pyarrow.Table.from_pylist(rows, SCHEMA), {"source": "odd images"}).write(Folder(str(folder)))
    return folder


@pytest.fixture(scope="module")
def answers(compose, checkpoint, root):
    """What predict says of every image by name, from a checkpoint, an exported model and a server."""
    paths = sorted(root.rglob("*.jpg"), key=lambda path: path.stem)
    images = f"images=[{','.join(map(str, paths))}]"
    model = checkpoint.parents[1] / "model"
    found = {}
    with listening(create_app(Predictor.open(str(model)))) as client:
        ways = {"checkpoint": checkpoint, "exported": model, "endpoint": client.base_url}
        for name, place in ways.items():
            # Several in a batch, so that one that is refused stands between others.
            words = [images, f"{name}={place}", "json=true", "device=cpu", "batch_size=8"]
            found[name] = dict(zip(IMAGES, predict(compose("predict", *words)), strict=True))
    return found


def test_what_is_read_gets_the_same_probabilities_everywhere(answers, checkpoint, root):
    opened = Checkpoint.open(str(checkpoint))
    model, config = opened.model, opened.config
    data = {"root": str(root), "image_size_px": config["data"]["image_size_px"], "resize": config["data"]["resize"]}
    datamodule = BinDataModule(**data, counts=model.counts, batch_size=8, num_workers=0)
    probabilities_NK = predict_split(model, datamodule, "test", "cpu", "32-true")
    evaluated_NK = opened.calibration.apply(probabilities_NK)[0]
    assert len(READ) > 53
    for way, found in answers.items():
        said = {name: found[name].error for name in READ if found[name].error}
        assert not said, way
        found_NK = numpy.array([list(found[name].probabilities.values()) for name in READ])
        numpy.testing.assert_allclose(found_NK, evaluated_NK, atol=TOLERANCE, err_msg=way)
    # Else a network that sees nothing would agree as well.
    assert numpy.abs(evaluated_NK - evaluated_NK[0]).max() > 100 * TOLERANCE


def test_what_is_refused_is_refused_everywhere_with_the_same_words(answers, root):
    datamodule = BinDataModule(root=str(root), image_size_px=32, counts=[3], batch_size=1, num_workers=0)
    evaluated = datamodule.loader("valid").dataset
    for number, (name, (content, _)) in enumerate(REFUSED.items()):
        with pytest.raises(UndecodableImage) as words:
            read_pixels(content)
        said = {way: found[name].error for way, found in answers.items()}
        assert said == dict.fromkeys(answers, str(words.value)), name
        with pytest.raises(UndecodableImage) as evaluations:
            evaluated[BatchPlan(0, [number], [])]
        assert str(evaluations.value).endswith(str(words.value))
