"""scripts/predict.py: counts the items in pictures, with a checkpoint, an exported model or a server that runs."""

from collections.abc import Sequence

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from stocktake.config import build
from stocktake.inference.image_reader import READ_ERRORS, Places
from stocktake.inference.prediction import Answer, printable
from stocktake.shell import override
from stocktake.storage import StorageOptions

COUNTED_BY = ("checkpoint", "exported", "endpoint")


def predict(cfg: DictConfig) -> list[Answer]:
    """Counts what conf/predict.yaml describes, prints it, and returns one answer a picture, in order.

    Raises:
        ValueError: No picture is named, or not one to count them, or it is not one of ours.
        EndpointError: The server does not answer at all.
    """
    wanted = [cfg.images] if isinstance(cfg.images, str) else [str(place) for place in cfg.images]
    if not wanted:
        raise ValueError("images is empty; type the pictures to count: 'images=[bin.jpg,photos/]'")
    storage = build(cfg.storage)
    counting = _counting(cfg, storage)
    places = Places(storage, int(cfg.max_mib * 2**20), cfg.timeout_s)
    found = [place for name in wanted for place in _found(places, name)]
    bar = Console(stderr=True)
    answers = []
    is_quiet = len(found) <= cfg.batch_size or not bar.is_terminal
    counted = counting.answers(found, places.read)
    for answer in track(counted, "Counting", len(found), console=bar, disable=is_quiet):
        answers.append(answer)
        if cfg.json:
            print(answer.as_json(), flush=True)
    if not cfg.json:
        Console().print(_table(answers))
    return answers


def _counting(cfg: DictConfig, storage: StorageOptions):
    named = [name for name in COUNTED_BY if cfg[name] is not None]
    if len(named) != 1:
        typed = " and ".join(override(name, cfg[name]) for name in named)
        what = f"{typed}: only one of them can count" if named else "Nothing is named that counts"
        raise ValueError(
            f"{what}. Type either checkpoint=<a run's checkpoints/best.ckpt>, exported=<a folder that "
            "scripts/export.py wrote>, or endpoint=<URL of a running scripts/serve.py>."
        )
    # Only here torch: the other two do without it.
    if cfg.endpoint is not None:
        from stocktake.inference.http_backend import ServerCounting

        return ServerCounting(cfg.endpoint, cfg.timeout_s, cfg.num_requests, cfg.max_tries)
    if cfg.exported is not None:
        from stocktake.inference.onnx_backend import OnnxCounting

        return OnnxCounting(cfg.exported)
    from stocktake.inference.torch_backend import TorchCounting

    return TorchCounting(cfg.checkpoint, storage, cfg.batch_size, cfg.device)


def _found(places: Places, name: str) -> Sequence[str | Answer]:
    try:
        return places.expand(name)
    except READ_ERRORS as error:
        return [Answer.unread(name, error)]


def _table(answers: Sequence[Answer]) -> Table:
    counts = sorted({count for answer in answers for count in answer.probabilities or ()})
    table = Table()
    table.add_column("picture", overflow="fold")
    table.add_column("count", justify="right", style="bold")
    for count in counts:
        table.add_column(f"P({count})", justify="right")
    for answer in answers:
        if answer.error:
            told = f"{escape(printable(answer.image))}\n[red]{escape(printable(answer.error))}[/red]"
            table.add_row(told, *["-"] * (1 + len(counts)))
        else:
            chances = [f"{answer.probabilities[count]:.1%}" for count in counts]
            table.add_row(escape(printable(answer.image)), str(answer.count), *chances)
    if num_unread := sum(answer.error is not None for answer in answers):
        table.caption = f"{num_unread} of {len(answers)} could not be read"
    return table
