"""Which split a bin belongs to, from its id or group alone.

Neighboring ids are often one bin before and after one pick: nearly the same photo, another count. So ids of one key
length fall into blocks of consecutive ids, a seeded shuffle deals the blocks out to the splits, and ids within two of a
block of another split are set aside. Blocks are dealt twenty in a row at a time, so that the shares hold for any long
row of ids; a coin tossed for each block gave 78 % training bins where 70 % were aimed at. Nothing here depends on which
other bins there are, so a bin never moves from one split to another when bins are added. Where the source names a group
for each bin, as a CSV does, a hash of the group decides instead.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real

import numpy

from stocktake.seeding import derive_seed, generator

SPLITS = ("train", "valid", "test")
GUARD = "guard"  # set aside: in the manifest, unused
# Photos of one bin were found up to two ids apart, none further.
GUARD_WIDTH = 2
BLOCKS_DEALT = 20
# How the first row of five-digit ids is dealt out under seed 0. numpy does not promise that its shuffle stays as it is
# from one version to the next (https://numpy.org/neps/nep-0019-rng-policy.html), and bins must not move.
KNOWN_DEAL = (6, 15, 12, 1, 13, 18, 2, 14, 16, 8, 9, 4, 7, 3, 19, 11, 0, 5, 17, 10)


class SplitError(ValueError):
    """A rule that cannot split, or not as it did."""


@dataclass(frozen=True)
class SplitRule:
    """A rule that assigns bins to splits.

    Attributes:
        rule: `grouped` (the source's groups, or else blocks of ids with guards), `none` (all in `test`), or `random`
            (each id by itself: it leaks, and exists to measure how much).
        block: Consecutive ids that stay together; 1 where bins are independent of their neighbors.
        fractions: Share of the blocks aimed at for each of train, valid and test; they sum to 1.
        seed: Another seed gives another assignment of blocks.
    """

    rule: str = "grouped"
    block: int = 30
    fractions: Mapping[str, float] = field(default_factory=lambda: {"train": 0.7, "valid": 0.15, "test": 0.15})
    seed: int = 0

    def __post_init__(self):
        if self.rule not in ("grouped", "none", "random"):
            raise SplitError(f"split.rule={self.rule!r} is none of grouped, none, random; type split_rule=grouped.")
        if type(self.block) is not int or self.block < 1:
            raise SplitError(f"split.block={self.block!r} must be a whole number, at least 1; 30 suits Amazon's bins.")
        if type(self.seed) is not int:
            raise SplitError(f"split.seed={self.seed!r} must be a whole number, such as split.seed=0.")
        if not isinstance(self.fractions, Mapping) or not _are_shares(self.fractions):
            raise SplitError(
                f"split.fractions={self.fractions} must name {', '.join(SPLITS)}, none negative, and sum to 1, such as "
                "'split.fractions={train: 0.7, valid: 0.15, test: 0.15}'."
            )

    def group_of(self, image_id: str, group: str | None = None) -> str:
        """Returns the source's group of a bin, or else the name of the block of ids around it, such as `5-166`.

        Raises:
            SplitError: The id is not all digits, and the rule needs to know its neighbors.
        """
        if group is not None:
            return group
        if not _has_neighbors(image_id):
            if self.rule != "grouped":
                return image_id
            raise SplitError(
                f"image id {image_id!r} is not a string of digits, so it has no neighbors to group by; type "
                "split_rule=none to make a test set of such images, or split_rule=random, or list them in a CSV with a "
                "group."
            )
        return f"{len(image_id)}-{int(image_id) // self.block}"

    def split_of(self, image_id: str, group: str | None = None) -> str:
        """Returns `train`, `valid`, `test`, or `guard` for an id too close to a block of another split.

        Args:
            group: The source's; `None` goes by the block of ids.
        """
        if self.rule == "none":
            return "test"
        if self.rule == "random":
            return self._split_at(derive_seed("split", self.seed, "image", image_id) / 2**63)
        if group is not None:
            return self._split_at(derive_seed("split", self.seed, "group", group) / 2**63)
        self.group_of(image_id)  # refuses an id that has no neighbors
        length, number = len(image_id), int(image_id)
        own = self._split_of_block(length, number // self.block)
        if self.block == 1:  # independent bins have no neighbors to be guarded from
            return own
        near = {max(0, number + step) // self.block for step in (-GUARD_WIDTH, GUARD_WIDTH)}
        return own if all(self._split_of_block(length, block) == own for block in near) else GUARD

    def _split_of_block(self, key_length: int, block: int) -> str:
        row, position = divmod(block, BLOCKS_DEALT)
        return self._split_at((_deal(self.seed, key_length, row)[position] + 0.5) / BLOCKS_DEALT)

    def _split_at(self, share: float) -> str:
        """Returns the split that a number from 0 to 1 falls into."""
        for split in SPLITS[:-1]:
            if share < self.fractions[split]:
                return split
            share -= self.fractions[split]
        return SPLITS[-1]


def _are_shares(fractions: Mapping[str, float]) -> bool:
    shares = list(fractions.values())
    are_numbers = all(isinstance(share, Real) and not isinstance(share, bool) and share >= 0 for share in shares)
    # Infinity and NaN are told apart from 1 here, too.
    return set(fractions) == set(SPLITS) and are_numbers and math.isclose(sum(shares), 1, abs_tol=1e-6)


def _has_neighbors(image_id: str) -> bool:
    return image_id.isascii() and image_id.isdigit()


def _deal(seed: int, key_length: int, row: int) -> tuple[int, ...]:
    """Returns the order in which one row of blocks is dealt out: a shuffle of 0 .. BLOCKS_DEALT - 1."""
    if _shuffled(0, 5, 0) != KNOWN_DEAL:
        raise SplitError(
            f"numpy {numpy.__version__} shuffles otherwise than the versions before it: bins would move from one side "
            "to another. Install one that splits as before: pip install 'numpy==2.4.*'."
        )
    return _shuffled(seed, key_length, row)


@functools.lru_cache(maxsize=1024)
def _shuffled(seed: int, key_length: int, row: int) -> tuple[int, ...]:
    return tuple(generator("split", seed, key_length, row).permutation(BLOCKS_DEALT).tolist())


def set_twins_aside(splits: dict[str, str], contents: Mapping[str, str | None]) -> dict[str, str]:
    """Guards bins whose contents also stand in a split that is nearer to the test.

    Args:
        splits: Split of each image id.
        contents: What makes two bins the same (a digest of the record, or of the image); `None` is like no other.

    Returns:
        The splits, with `guard` for a bin whose equal is in `test` while it is not, or in `valid` while it is in
        `train`: what is measured stays, what would have been learnt by heart goes.
    """
    rank = {split: position for position, split in enumerate(SPLITS)}
    highest: dict[str, int] = {}
    for image_id, split in splits.items():
        if split != GUARD and (content := contents.get(image_id)) is not None:
            highest[content] = max(highest.get(content, 0), rank[split])

    def has_nearer_twin(image_id: str, split: str) -> bool:
        content = contents.get(image_id)
        return split != GUARD and content is not None and rank[split] < highest[content]

    return {image_id: GUARD if has_nearer_twin(image_id, split) else split for image_id, split in splits.items()}


def set_pairs_aside(splits: dict[str, str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Guards, of each pair that is used in two splits, the bin that is further from the test; as `set_twins_aside`."""
    splits = dict(splits)
    for pair in pairs:
        used = [(SPLITS.index(splits[image_id]), image_id) for image_id in pair if splits[image_id] != GUARD]
        if len({rank for rank, _ in used}) == 2:
            splits[min(used)[1]] = GUARD
    return splits


def crossing_pairs(splits: Mapping[str, str], distance: int = GUARD_WIDTH) -> int:
    """Counts pairs of ids at most `distance` apart, of one key length, that are used in two splits."""
    return sum(
        splits.get(image_id, GUARD) not in (GUARD, split)
        for number_id, split in splits.items()
        if split != GUARD and _has_neighbors(number_id)
        for image_id in _next_ids(number_id, distance)
    )


def _next_ids(image_id: str, distance: int) -> Iterable[str]:
    for step in range(1, distance + 1):
        following = str(int(image_id) + step).zfill(len(image_id))
        if len(following) == len(image_id):
            yield following
