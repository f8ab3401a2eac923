"""scripts/predict.py: counts the items in images, with a checkpoint, an exported model or a server that runs."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from stocktake.config import build
from stocktake.inference.image_reader import READ_ERRORS, ImageReader
from stocktake.inference.prediction import Backend, Prediction, printable
from stocktake.shell import override
from stocktake.storage import StorageOptions

if TYPE_CHECKING:
    from stocktake.inference.endpoint_backend import Endpoint

COUNTED_BY = ("checkpoint", "exported", "endpoint")
SAGEMAKER = "sagemaker:"  # before an endpoint's name


def predict(cfg: DictConfig) -> list[Prediction]:
    """Counts what conf/predict.yaml describes, prints it, and returns one prediction an image, in order.

    Raises:
        ValueError: No image is named, or nothing that counts, or it is none of ours.
        EndpointError: The server does not answer at all.
    """
    wanted = [cfg.images] if isinstance(cfg.images, str) else [str(url) for url in cfg.images]
    if not wanted:
        raise ValueError("images is empty; type the images to count: 'images=[bin.jpg,photos/]'")
    storage = build(cfg.storage)
    backend = _backend(cfg, storage)
    reader = ImageReader(storage, int(cfg.max_mib * 2**20), cfg.timeout_s)
    images = [image for url in wanted for image in _found(reader, url)]
    bar = Console(stderr=True)
    predictions = []
    is_quiet = len(images) <= cfg.batch_size or not bar.is_terminal
    predicted = backend.predict(images, reader.read)
    for prediction in track(predicted, "Counting", len(images), console=bar, disable=is_quiet):
        predictions.append(prediction)
        if cfg.json:
            print(prediction.as_json(), flush=True)
    if not cfg.json:
        Console().print(_table(predictions))
    return predictions


def _backend(cfg: DictConfig, storage: StorageOptions) -> Backend:
    named = [name for name in COUNTED_BY if cfg[name] is not None]
    if len(named) != 1:
        typed = " and ".join(override(name, cfg[name]) for name in named)
        what = f"{typed}: only one of them can count" if named else "Nothing is named that counts"
        raise ValueError(
            f"{what}. Type either checkpoint=<a run's checkpoints/best.ckpt>, exported=<a folder that "
            "scripts/export.py wrote>, or endpoint=<URL of a running scripts/serve.py, or sagemaker:NAME>."
        )
    # Only here torch: the other two do without it.
    if cfg.endpoint is not None:
        from stocktake.inference.endpoint_backend import EndpointBackend

        return EndpointBackend(_endpoint(cfg, storage), cfg.num_requests)
    if cfg.exported is not None:
        from stocktake.inference.onnx_backend import OnnxBackend

        return OnnxBackend(cfg.exported)
    from stocktake.inference.torch_backend import TorchBackend

    return TorchBackend(cfg.checkpoint, storage, cfg.batch_size, cfg.device)


def _endpoint(cfg: DictConfig, storage: StorageOptions) -> "Endpoint":
    if cfg.endpoint.startswith(SAGEMAKER):
        from stocktake.inference.sagemaker_endpoint import SageMakerEndpoint

        name = cfg.endpoint.removeprefix(SAGEMAKER)
        return SageMakerEndpoint.of(name, storage, cfg.timeout_s, cfg.max_tries, cfg.async_input)
    from stocktake.inference.http_backend import Endpoint

    return Endpoint(cfg.endpoint, cfg.timeout_s, cfg.max_tries)


def _found(reader: ImageReader, url: str) -> Sequence[str | Prediction]:
    try:
        return reader.expand(url)
    except READ_ERRORS as error:
        return [Prediction.unread(url, error)]


def _table(predictions: Sequence[Prediction]) -> Table:
    counts = sorted({count for prediction in predictions for count in prediction.probabilities or ()})
    names = [printable(prediction.image) for prediction in predictions]
    folder = _common_folder(names)
    table = Table(title=f"in {escape(folder)}" if folder else None)
    table.add_column("image", overflow="fold")
    table.add_column("count", justify="right", style="bold")
    for count in counts:
        table.add_column(f"P({count})", justify="right")
    for prediction, name in zip(predictions, names, strict=True):
        image = escape(name.removeprefix(f"{folder}/") if folder else name)
        if prediction.probabilities is None:
            reason = f"{image}\n[red]{escape(printable(prediction.error or ''))}[/red]"
            table.add_row(reason, *["-"] * (1 + len(counts)))
        else:
            chances = [f"{prediction.probabilities[count]:.1%}" for count in counts]
            table.add_row(image, str(prediction.count), *chances)
    if num_unread := sum(prediction.error is not None for prediction in predictions):
        table.caption = f"{num_unread} of {len(predictions)} could not be read"
    return table


def _common_folder(names: Sequence[str]) -> str:
    """Returns the folder that several names begin with, which so need not stand in each row; empty if there is none."""
    shared = os.path.commonprefix(names) if len(names) > 1 else ""  # noqa: RUF071 - commonpath takes no s3://
    folder = shared.rpartition("/")[0]
    return "" if folder.endswith((":", ":/")) else folder
