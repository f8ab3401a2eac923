"""scripts/prepare.py: from a source to a dataset root."""

import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from stocktake.config import build
from stocktake.data.ingest.ingest import Ingest
from stocktake.data.ingest.products import RECORDS_KEY
from stocktake.data.ingest.quarantine import QUARANTINE_KEY
from stocktake.data.manifest import MANIFEST_KEY, Manifest
from stocktake.data.sources.formats import open_source
from stocktake.data.sources.source import ListedBin, Source, narrowed
from stocktake.data.split import SPLITS, SplitRule
from stocktake.run_folder import kept_from_others
from stocktake.shell import typed_again
from stocktake.storage import Folder, StorageOptions, is_local, join_url, local_path

NUM_SAMPLES = 20  # images whose size a forecast asks for


def prepare(cfg: DictConfig) -> Manifest | None:
    """Runs what conf/prepare.yaml describes; returns the manifest, or `None` for a dry run."""
    console = Console()
    storage: StorageOptions = build(cfg.storage)
    split: SplitRule = build(cfg.split)
    root = Folder(str(cfg.root), storage)
    list_choice, form = (None if cfg[key] is None else str(cfg[key]) for key in ("list", "format"))
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        source = open_source(str(cfg.source), storage, form, list_choice)
        listing = source.listing()
    for warning in noted:
        _say(console, f"Note: {warning.message}")
    counts = None if cfg.counts is None else list(cfg.counts)
    # The list is narrowed here, too, so that the limit is one of bins that are wanted.
    listing = narrowed(listing, counts, cfg.limit)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=cfg.dry_run,
    ) as bars:

        def progress(name: str, length: int) -> Callable[[], None]:
            task = bars.add_task(name, total=length)
            return lambda: bars.advance(task)

        ingest = Ingest(
            source,
            root,
            listing,
            split,
            counts=counts,
            known_bad=list(cfg.known_bad),
            max_bad_fraction=cfg.max_bad_fraction,
            num_requests=cfg.num_requests,
            remove_leftovers=cfg.remove_leftovers,
            progress=progress,
        )
        if cfg.dry_run:
            _say(console, _forecast(source, root, listing))
            return None
        started = time.monotonic()
        with _alone_in(root):
            manifest = ingest.run()
    console.print(_summary(manifest, root))
    for line in _notes(manifest, ingest):
        _say(console, line)
    seconds, written = time.monotonic() - started, join_url(root.url, MANIFEST_KEY)
    _say(console, f"{seconds:.0f} s. Wrote {written}, {RECORDS_KEY} and {QUARANTINE_KEY}.")
    return manifest


def _alone_in(root: Folder) -> AbstractContextManager[None]:
    """Keeps a local root for this process: of two, each would remove images that the other's manifest names."""
    if not is_local(root.url):
        return nullcontext()
    hint = "Wait for its end, or type root=<another folder>."
    return kept_from_others(local_path(root.url), "collecting into", f"and remove each other's images. {hint}")


def _say(console: Console, line: str) -> None:
    """Prints what may hold a user's text as it is: brackets are no markup, and a path is not broken into lines."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """Items a second, worked out when a bar is drawn: after every item it would take as long as a GET does."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {task.description}/s" if task.speed else "")


def _forecast(source: Source, root: Folder, listing: list[ListedBin]) -> str:
    """Says what a run would read and write, from the sizes of a few images spread over the list."""
    sample = listing[:: max(1, len(listing) // NUM_SAMPLES)][:NUM_SAMPLES]
    sizes = [facts["size"] for listed in sample if (facts := source.image_facts(listed.image_id)) is not None]
    if not sizes:
        return f"None of {len(sample)} images of the list is in {source.url}: check source and list."
    gib = sum(sizes) / len(sizes) * len(listing) / 2**30
    what = "a record and an image" if source.has_records else "an image"
    return (
        f"Would send {len(listing) * (1 + source.has_records):,} GET requests to {source.url} ({what} for each of "
        f"{len(listing):,} bins)\nand read about {gib:.2f} GiB ({len(sizes)} images were asked for their size), "
        f"then write up to {len(listing):,} images\nof the same size, {MANIFEST_KEY}, {RECORDS_KEY} and "
        f"{QUARANTINE_KEY} to {root.url}.\n"
        "Images that lie there already are not fetched again."
    )


def _summary(manifest: Manifest, root: Folder) -> Table:
    table = Table(title=Text(f"Bins in {root.url}"), title_justify="left")
    counts = sorted(set(manifest.table["count"].to_pylist()))
    for heading in ("split", "bins", "share", *(f"count {count}" for count in counts)):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    pairs = list(zip(manifest.table["split"].to_pylist(), manifest.table["count"].to_pylist(), strict=True))
    for split, size in manifest.origin["num_images"].items():
        per_count = (f"{sum(pair == (split, count) for pair in pairs):,}" for count in counts)
        table.add_row(split, f"{size:,}", f"{size / max(1, len(pairs)):.1%}", *per_count)
    guards = ", ".join(f"{number} {reason}" for reason, number in manifest.origin["num_guards"].items())
    table.caption = (
        f"guard: set aside, unused ({guards})\n"
        f"{manifest.origin['num_crossing_pairs']} pairs of neighboring bins stand in two splits\n"
        f"{manifest.origin['num_quarantined']} left out, with their reasons in {QUARANTINE_KEY}"
    )
    table.caption_justify = "left"
    return table


def _notes(manifest: Manifest, ingest: Ingest) -> list[str]:
    """Says what a training on this root would miss, and what lies there unused."""
    notes = []
    sizes, rule = manifest.origin["num_images"], manifest.origin["split"]["rule"]
    per_count = dict.fromkeys(ingest.counts or manifest.table["count"].unique().to_pylist(), 0)
    for split, count in zip(manifest.table["split"].to_pylist(), manifest.table["count"].to_pylist(), strict=True):
        per_count[count] += split == "train"
    if rule != "none":  # else it is a test set from outside
        if empty := [split for split in SPLITS if not sizes[split]]:
            notes.append(f"Note: there is no bin in {', '.join(empty)}. More bins, or another split.fractions, help.")
        if sizes["train"] and (unseen := [count for count in sorted(per_count) if not per_count[count]]):
            notes.append(
                f"Note: no bin with {', '.join(map(str, unseen))} items is in train, so a model cannot learn to tell "
                "them. Collect more bins, or type counts without these."
            )
    if ingest.leftovers and ingest.remove_leftovers:
        notes.append(f"Removed {len(ingest.leftovers):,} images of an earlier split or list.")
    elif ingest.leftovers:
        notes.append(
            f"Note: {len(ingest.leftovers):,} images in {join_url(ingest.root.url, 'data')} have no row in the "
            "manifest: an earlier split or list left them, and nothing reads them. This removes them:\n"
            f"  {typed_again('remove_leftovers=true')}"
        )
    return notes
