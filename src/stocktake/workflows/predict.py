"""scripts/predict.py: counts the items in pictures, wherever they lie.

Axes: B images of a batch, K counts that the model tells apart, S side of the square that the network sees.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from torch import Tensor

from stocktake.config import build
from stocktake.data.transforms import Resize, decode
from stocktake.model.counter import BinCounter
from stocktake.workflows.checkpoints import load_counter
from stocktake.workflows.places import READ_ERRORS, Places

NUM_READERS = 8  # threads that fetch and decode the next batch while the network sees this one


@dataclass(frozen=True)
class Answer:
    """What there is to say of one picture: a count with its probabilities, or why it could not be read."""

    image: str
    count: int | None = None
    probabilities: dict[int, float] | None = None
    error: str | None = None

    def as_json(self) -> str:
        """Returns one line: `{"image", "count", "probabilities": {"1": 0.7, ...}}` or `{"image", "error"}`."""
        return json.dumps({name: value for name, value in vars(self).items() if value is not None})


def predict(cfg: DictConfig) -> list[Answer]:
    """Counts what conf/predict.yaml describes, prints it, and returns one answer a picture, in order.

    Raises:
        ValueError: No picture is named, or the checkpoint is not one of ours.
    """
    wanted = [cfg.images] if isinstance(cfg.images, str) else [str(place) for place in cfg.images]
    if not wanted:
        raise ValueError("images is empty; type the pictures to count: 'images=[bin.jpg,photos/]'")
    storage = build(cfg.storage)
    model, config = load_counter(cfg.checkpoint, storage)
    model.to(_device(cfg.device))
    resize = Resize(config["data"]["image_size_px"], config["data"]["resize"])
    places = Places(storage, int(cfg.max_mib * 2**20), cfg.timeout_s)

    def load(place: str | Answer) -> Tensor | Answer:
        if isinstance(place, Answer):
            return place
        try:
            return resize(decode(places.read(place)))
        except READ_ERRORS as error:
            return Answer(place, error=_one_line(error))

    found = [place for name in wanted for place in _found(places, name)]
    bar = Console(stderr=True)
    answers = []
    is_quiet = len(found) <= cfg.batch_size or not bar.is_terminal
    for answer in track(
        _answers(model, found, load, cfg.batch_size), "Counting", len(found), console=bar, disable=is_quiet
    ):
        answers.append(answer)
        if cfg.json:
            print(answer.as_json(), flush=True)
    if not cfg.json:
        Console().print(_table(answers, model.counts))
    return answers


def _found(places: Places, name: str) -> Sequence[str | Answer]:
    try:
        return places.expand(name)
    except READ_ERRORS as error:
        return [Answer(name, error=_one_line(error))]


def _answers(
    model: BinCounter,
    found: Sequence[str | Answer],
    load: Callable[[str | Answer], Tensor | Answer],
    batch_size: int,
) -> Iterator[Answer]:
    """Yields one answer a place, in order; the next batch is on its way while the network sees this one."""
    chunks = [found[start : start + batch_size] for start in range(0, len(found), batch_size)]
    with ThreadPoolExecutor(NUM_READERS, "read") as readers:
        following = readers.map(load, chunks[0])
        for number, chunk in enumerate(chunks, start=1):
            loaded = list(following)
            if number < len(chunks):
                following = readers.map(load, chunks[number])
            images = [image_CSS for image_CSS in loaded if isinstance(image_CSS, Tensor)]
            probabilities = iter(_probabilities(model, images))
            for place, result in zip(chunk, loaded, strict=True):
                yield result if isinstance(result, Answer) else _answer(place, model.counts, next(probabilities))


@torch.inference_mode()
def _probabilities(model: BinCounter, images: list[Tensor]) -> list[list[float]]:
    """Returns P(count) of every `image_CSS`, as B lists of K numbers."""
    if not images:
        return []
    images_BCSS = torch.stack(images).to(model.device)
    return model.head.probabilities(model(images_BCSS)).cpu().tolist()


def _answer(place: str, counts: Sequence[int], probabilities_K: list[float]) -> Answer:
    by_count = dict(zip(counts, (round(p, 6) for p in probabilities_K), strict=True))
    return Answer(place, counts[max(range(len(counts)), key=probabilities_K.__getitem__)], by_count)


def _table(answers: Sequence[Answer], counts: Sequence[int]) -> Table:
    table = Table()
    table.add_column("picture", overflow="fold")
    table.add_column("count", justify="right", style="bold")
    for count in counts:
        table.add_column(f"P({count})", justify="right")
    for answer in answers:
        if answer.error:
            table.add_row(f"{escape(answer.image)}\n[red]{escape(answer.error)}[/red]", *["-"] * (1 + len(counts)))
        else:
            chances = [f"{answer.probabilities[count]:.1%}" for count in counts]
            table.add_row(escape(answer.image), str(answer.count), *chances)
    if num_unread := sum(answer.error is not None for answer in answers):
        table.caption = f"{num_unread} of {len(answers)} could not be read"
    return table


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
