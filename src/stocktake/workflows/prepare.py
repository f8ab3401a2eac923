"""scripts/prepare.py: from a source to a dataset root."""

import time

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from stocktake.config import build
from stocktake.data.ingest import Ingest
from stocktake.data.listing import read_listing
from stocktake.data.manifest import MANIFEST_KEY, Manifest
from stocktake.data.products import RECORDS_KEY
from stocktake.data.quarantine import QUARANTINE_KEY
from stocktake.storage import Folder, join_url

NUM_SAMPLES = 20  # images whose size a forecast asks for


def prepare(cfg: DictConfig) -> Manifest | None:
    """Runs what conf/prepare.yaml describes; returns the manifest, or `None` for a dry run."""
    console = Console()
    storage = build(cfg.storage)
    source, root = Folder(cfg.source, storage), Folder(cfg.root, storage)
    listing = read_listing(source, cfg.list)
    if cfg.counts is not None:
        listing = [(image_id, count) for image_id, count in listing if count is None or count in cfg.counts]
    listing = listing[: cfg.limit]
    split = build(cfg.split)
    if cfg.dry_run:
        console.print(_forecast(source, root, listing))
        return None

    started = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bars:

        def progress(name: str, length: int):
            task = bars.add_task(name, total=length)
            return lambda: bars.advance(task)

        manifest = Ingest(
            source,
            root,
            listing,
            split,
            counts=cfg.counts,
            known_bad=cfg.known_bad,
            max_bad_fraction=cfg.max_bad_fraction,
            num_requests=cfg.num_requests,
            progress=progress,
        ).run()
    console.print(_summary(manifest, root))
    seconds, written = time.monotonic() - started, join_url(root.url, MANIFEST_KEY)
    console.print(f"{seconds:.0f} s. Wrote {written}, {RECORDS_KEY} and {QUARANTINE_KEY}.")
    return manifest


class RateColumn(ProgressColumn):
    """Items a second, worked out when a bar is drawn: after every item it would take as long as a GET does."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {task.description}/s" if task.speed else "")


def _forecast(source: Folder, root: Folder, listing: list[tuple[str, int | None]]) -> str:
    """Says what a run would read and write, from the sizes of a few images spread over the list."""
    sample = listing[:: max(1, len(listing) // NUM_SAMPLES)][:NUM_SAMPLES]
    sizes = [size for image_id, _ in sample if (size := source.size(f"bin-images/{image_id}.jpg")) is not None]
    if not sizes:
        return f"None of {len(sample)} images of the list is in {source.url}: check source and list."
    gib = sum(sizes) / len(sizes) * len(listing) / 2**30
    return (
        f"Would send {2 * len(listing):,} GET requests to {source.url} (a record and an image for each of "
        f"{len(listing):,} bins)\nand read about {gib:.2f} GiB ({len(sizes)} images were asked for their size), "
        f"then write up to {len(listing):,} images\nof the same size, {MANIFEST_KEY}, {RECORDS_KEY} and "
        f"{QUARANTINE_KEY} to {root.url}.\n"
        "Images that lie there already are not fetched again."
    )


def _summary(manifest: Manifest, root: Folder) -> Table:
    table = Table(title=f"Bins in {root.url}", title_justify="left")
    counts = sorted(set(manifest.table["count"].to_pylist()))
    for heading in ("split", "bins", "share", *(f"count {count}" for count in counts)):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    pairs = list(zip(manifest.table["split"].to_pylist(), manifest.table["count"].to_pylist(), strict=True))
    for side, size in manifest.origin["num_images"].items():
        per_count = (f"{sum(pair == (side, count) for pair in pairs):,}" for count in counts)
        table.add_row(side, f"{size:,}", f"{size / max(1, len(pairs)):.1%}", *per_count)
    guards = ", ".join(f"{number} {reason}" for reason, number in manifest.origin["num_guards"].items())
    table.caption = (
        f"guard: set aside, unused ({guards})\n"
        f"{manifest.origin['num_crossing_pairs']} pairs of neighbouring bins stand on two sides\n"
        f"{manifest.origin['num_quarantined']} left out, with their reasons in {QUARANTINE_KEY}"
    )
    table.caption_justify = "left"
    return table
