"""The ranks of a distributed run compare what they are about to do before the first step, and end together.

Without it, ranks with other configurations train on in silence, and ranks with other batches wait for each other for
ever. They meet in the key-value store that torchrun gives them, before there is a process group:
https://docs.pytorch.org/docs/stable/distributed.html#distributed-key-value-store
"""

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]  # as torch documents it
from torch.distributed.rendezvous import rendezvous

POLL_S = 0.05
# Hosts of one job start within minutes of each other: each installs its packages first.
PATIENCE_S = 600
TELLING_S = 10
_runs = itertools.count()  # a sweep trains several times in one process, and each time anew


class Disagreement(ValueError):
    """The ranks of a run would not do the same; the message names the difference."""


class Agreement:
    """This rank among the others; alone, it agrees with itself.

    As a context manager it tells the others why this rank ends early.
    """

    def __init__(self, store: Store | None = None, rank: int = 0, num_ranks: int = 1, patience_s: float = PATIENCE_S):
        """
        Args:
            store: Where the ranks meet; `None` for one rank.
            rank: This one's number.
            num_ranks: All of them.
            patience_s: How long to wait for a rank that says nothing.
        """
        self.store, self.rank, self.num_ranks, self.patience_s = store, rank, num_ranks, patience_s

    @classmethod
    def from_environment(cls, timeout_s: float = PATIENCE_S) -> Self:
        """Returns the agreement of the ranks that torchrun started, or that of one rank.

        Args:
            timeout_s: How long the host of the first rank may take to answer.
        """
        if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
            return cls()
        store, rank, num_ranks = next(rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return cls(PrefixStore(f"stocktake/{attempt}/{next(_runs)}", store), rank, num_ranks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if self.store is not None and isinstance(error, Exception) and not isinstance(error, Disagreement):
            self.store.set("failed", f"rank {self.rank}: {error or type(error).__name__}")

    @classmethod
    def tell_others(cls, error: Exception) -> None:
        """Tells the other ranks, which would wait on their hosts, why this one ended before there was an agreement."""
        with contextlib.suppress(Exception), cls.from_environment(TELLING_S):  # the others may have ended, too
            raise error

    def gather(self, topic: str, value: str) -> list[str]:
        """Returns what each rank says of a topic, by rank.

        Raises:
            Disagreement: Another rank has ended early, or says nothing for `patience_s`.
        """
        if self.store is None:
            return [value]
        self.store.set(f"{topic}/{self.rank}", value)
        keys = [f"{topic}/{rank}" for rank in range(self.num_ranks)]
        deadline_s = time.monotonic() + self.patience_s
        while not self.store.check(keys):
            if self.store.check(["failed"]):
                raise Disagreement(f"Another rank could not start, so none does. {self.store.get('failed').decode()}")
            if time.monotonic() > deadline_s:
                silent = [rank for rank, key in enumerate(keys) if not self.store.check([key])]
                raise Disagreement(f"Ranks {silent} said nothing of their {topic} for {self.patience_s:g} s.")
            time.sleep(POLL_S)
        return [self.store.get(key).decode() for key in keys]

    def agree(self, topic: str, values: Mapping[str, Any], hint: str) -> None:
        """Ends this rank where others say something else, as it ends the others.

        Args:
            topic: Such as `configuration`; each is agreed upon once.
            values: By name; what JSON can hold.
            hint: What to do about a difference.

        Raises:
            Disagreement: They differ; the message names the keys, the values and the ranks.
        """
        by_rank = [json.loads(value) for value in self.gather(topic, json.dumps(values, sort_keys=True))]
        differing = [
            f"{name} is " + ", ".join(f"{own.get(name)!r} on rank {rank}" for rank, own in enumerate(by_rank))
            for name in sorted(set().union(*by_rank))
            if any(own.get(name) != by_rank[0].get(name) for own in by_rank)
        ]
        if differing:
            raise Disagreement(f"The ranks differ in their {topic}, so none starts: {'; '.join(differing)}. {hint}")

    def finished(self, found: Mapping[str, Any] | None, run_dir: Path) -> dict[str, Any] | None:
        """Returns what the first rank, which alone writes it, found of a finished run, on every rank.

        Args:
            found: What this rank found in its folder; what JSON can hold.
            run_dir: That folder.

        Raises:
            Disagreement: Another rank found one and the first rank none.
        """
        by_rank = [json.loads(own) for own in self.gather("progress", json.dumps(found))]
        if by_rank[0] is None and any(by_rank):
            has = next(rank for rank, own in enumerate(by_rank) if own)
            raise Disagreement(
                f"Rank {has} has a finished run in {run_dir}, and rank 0, which writes its files, has none there, so "
                "none starts. Copy that folder to the host of rank 0, or start the hosts so that the one which has it "
                "is the first, or give all the same run folder (RUN_DIR); for another run, type run_name=<new>."
            )
        return by_rank[0]

    def newest_common(self, checkpoints: Sequence[tuple[str, str]]) -> str | None:
        """Returns the checkpoint to go on from: the newest that every rank has, `None` where none has any.

        Args:
            checkpoints: Name and digest of this rank's whole checkpoints, the newest first.

        Raises:
            Disagreement: Some ranks have checkpoints, and no whole one is on all of them.
        """
        by_rank = [
            [tuple(item) for item in json.loads(own)] for own in self.gather("checkpoint", json.dumps(checkpoints))
        ]
        common = set(by_rank[0]).intersection(*by_rank)
        for name, digest in checkpoints:
            if (name, digest) in common:
                return name
        if any(by_rank):
            held = "; ".join(
                f"rank {rank} has {', '.join(name for name, _ in own) or 'none'}" for rank, own in enumerate(by_rank)
            )
            raise Disagreement(
                f"No checkpoint is on every rank, so none goes on: {held}. Give all ranks the same folder "
                "(checkpoint_dir=s3://bucket/folder), or copy the newest to each, or type run_name=<new> to start anew."
            )
        return None


def is_first_rank() -> bool:
    """Whether this process is the one that writes and speaks for all; known before there is a Trainer."""
    return getattr(rank_zero_only, "rank", 0) == 0


@cache
def code_sha256() -> str:
    """Returns a digest of this package's modules: two runs with the same one run the same code."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def refuse_idle_ranks(num_ranks: int, environment: Mapping[str, str] = os.environ) -> None:
    """Ends a run whose Trainer does not use the ranks that torchrun started: each would train alone, into one folder.

    Raises:
        Disagreement: It has `num_ranks`, and torchrun started others.
    """
    started = int(environment.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in environment else num_ranks
    if started != num_ranks:
        raise Disagreement(
            f"torchrun started {started} ranks, and the Trainer would use {num_ranks}. Type neither trainer.devices "
            "nor trainer.num_nodes under torchrun: unset, they take its numbers."
        )
