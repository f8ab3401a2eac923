"""Fewer training bins: whole blocks, each set part of the larger ones, and the rest of the data as it was."""

import random

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.data.datamodule import BinDataModule
from stocktake.data.manifest import ManifestError, draw_blocks

blocks = st.dictionaries(st.text("0123456789-", min_size=1, max_size=6), st.integers(1, 30), min_size=1, max_size=40)


def table(sizes: dict[str, int]) -> pyarrow.Table:
    rows = [(f"{group}/{position}", group) for group, size in sizes.items() for position in range(size)]
    return pyarrow.table({"image_id": [row[0] for row in rows], "group": [row[1] for row in rows]})


def drawn(rows: pyarrow.Table, num_train_bins: int, seed: int = 0) -> set[str]:
    """The ids of the drawn bins; none where the first block is already too large."""
    try:
        return set(draw_blocks(rows, num_train_bins, seed)["image_id"].to_pylist())
    except ManifestError:  # the number itself can be had
        return set()


@given(blocks, st.data())
def test_fewer_bins_are_part_of_more_and_blocks_stay_whole(sizes, data):
    total = sum(sizes.values())
    fewer, more = sorted(data.draw(st.tuples(st.integers(1, total), st.integers(1, total))))
    rows, seed = table(sizes), data.draw(st.integers(0, 5))
    small, large = drawn(rows, fewer, seed), drawn(rows, more, seed)
    assert small <= large
    for ids, asked in ((small, fewer), (large, more)):
        # No block fits any more: what is missing is less than the largest one.
        assert asked - max(sizes.values()) < len(ids) <= asked
        for group, size in sizes.items():
            assert sum(image_id.startswith(f"{group}/") for image_id in ids) in (0, size)
    assert drawn(rows, total, seed) == set(rows["image_id"].to_pylist())


@given(blocks, st.randoms(use_true_random=False), st.data())
def test_the_order_of_the_rows_does_not_matter(sizes, chance: random.Random, data):
    rows = table(sizes)
    num_train_bins = data.draw(st.integers(1, rows.num_rows))
    shuffled = list(range(rows.num_rows))
    chance.shuffle(shuffled)
    assert drawn(rows.take(shuffled), num_train_bins) == drawn(rows, num_train_bins)


def test_another_seed_draws_others_and_each_block_alike_often():
    rows = table({str(group): 1 for group in range(100)})
    times = dict.fromkeys(rows["image_id"].to_pylist(), 0)
    for seed in range(200):
        for image_id in drawn(rows, 30, seed):
            times[image_id] += 1
    # 200 draws with probability 0.3: 60, give or take 6.5; none of 100 is 4 times that off.
    assert sum(times.values()) == 200 * 30
    assert all(34 < number < 86 for number in times.values())


def module_of(root, **options) -> BinDataModule:
    return BinDataModule(str(root), **{"batch_size": 8, "image_size_px": 32, "num_workers": 0} | options)


def ids_of(loader) -> list[str]:
    return [image_id for batch in loader for image_id in batch["image_ids"]]


def test_only_training_is_smaller_and_its_epoch_follows(synthetic_root):
    whole, small = module_of(synthetic_root), module_of(synthetic_root, num_train_bins=35)
    assert len(small.train_dataloader()) == 35 // 8
    kept = set(small.rows("train")["image_id"].to_pylist())
    assert len(kept) == 35  # drawn bins are blocks of one
    assert set(ids_of(small.train_dataloader())) < kept < set(whole.rows("train")["image_id"].to_pylist())
    for split in ("valid", "test", "all"):
        assert small.rows(split).equals(whole.rows(split))


def test_a_limit_is_taken_of_the_drawn_bins(synthetic_root):
    drawn = module_of(synthetic_root, num_train_bins=35).rows("train")["image_id"].to_pylist()
    both = module_of(synthetic_root, num_train_bins=35, limit=9).rows("train")["image_id"].to_pylist()
    assert len(both) == 9
    assert set(both) < set(drawn)


@pytest.mark.parametrize("asked", [1_000_000, 0, -3])
def test_a_number_that_cannot_be_is_named(synthetic_root, asked):
    there = module_of(synthetic_root).rows("train").num_rows
    expected = rf"there are {there} training bins: type data\.num_train_bins={there}" if asked > 0 else "Type .*=1 or"
    with pytest.raises(ManifestError, match=rf"data\.num_train_bins={asked}\b.*{expected}"):
        module_of(synthetic_root, num_train_bins=asked).train_dataloader()
    assert module_of(synthetic_root, num_train_bins=there).rows("train").num_rows == there
