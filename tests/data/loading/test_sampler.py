"""The order of an epoch: the same for any number of ranks and workers, and resumable at any batch."""

import itertools

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, get_worker_info

from stocktake.data.loading.sampler import ResumableSampler


def rows(sampler) -> list[list[int]]:
    return [plan.rows for plan in sampler]


def global_batches(num_ranks: int, *args, epoch: int = 0, **options) -> list[list[int]]:
    samplers = [ResumableSampler(*args, rank=rank, num_ranks=num_ranks, **options) for rank in range(num_ranks)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    parts = [rows(sampler) for sampler in samplers]
    assert len({len(part) for part in parts}) == 1, "ranks take different numbers of steps"
    assert {len(part) for part in parts} == {len(sampler) for sampler in samplers}
    return [[row for rank in step for row in rank] for step in zip(*parts, strict=True)]


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = ResumableSampler(100, 10, True, seed)
        sampler.set_epoch(epoch)
        return rows(sampler)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    numpy.random.seed(5)
    assert order(0, 3) == order(0, 3)


@given(st.integers(8, 200), st.sampled_from([4, 8]), st.integers(0, 5), st.integers(0, 3))
def test_global_batches_are_the_same_for_any_number_of_ranks(num_images, batch_size, epoch, seed):
    one = global_batches(1, num_images, batch_size, True, seed, epoch=epoch)
    for num_ranks in (2, 4):
        assert global_batches(num_ranks, num_images, batch_size, True, seed, epoch=epoch) == one
    assert all(len(batch) == batch_size for batch in one)
    flat = [row for batch in one for row in batch]
    assert len(set(flat)) == len(flat) == num_images // batch_size * batch_size


@given(st.integers(4, 200), st.sampled_from([4, 8, 32]), st.sampled_from([1, 2, 4]))
def test_in_evaluation_every_image_comes_once(num_images, batch_size, num_ranks):
    batches = global_batches(num_ranks, num_images, batch_size, False)
    assert sorted(row for batch in batches for row in batch) == list(range(num_images))
    sizes = [
        len(part)
        for rank in range(num_ranks)
        for part in rows(ResumableSampler(num_images, batch_size, False, rank=rank, num_ranks=num_ranks))
    ]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


def test_evaluation_goes_in_order():
    assert rows(ResumableSampler(5, 3, False)) == [[0, 1, 2], [3, 4]]


@given(st.integers(10, 100), st.integers(0, 9), st.sampled_from([0, 1, 2, 3]))
def test_a_resumed_epoch_goes_on_and_the_next_is_whole(num_images, done, num_workers):
    sampler = ResumableSampler(num_images, 4, True, seed=1, num_workers=num_workers)
    done = min(done, len(sampler))
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.set_epoch(3)
    following = list(sampler)

    resumed = ResumableSampler(num_images, 4, True, seed=1, num_workers=num_workers)
    resumed.start_at(2, done)
    assert len(resumed) == len(whole)
    assert list(resumed) == whole[done:]
    resumed.set_epoch(3)
    assert list(resumed) == following


class Plans(Dataset):
    def __len__(self):
        return 1_000

    def __getitem__(self, plan):
        info = get_worker_info()
        return info.id if info else 0, plan


@pytest.mark.parametrize("num_workers", [0, 2, 3])
@pytest.mark.parametrize("start", [0, 3])
def test_the_rows_ahead_are_what_the_same_worker_is_asked_for_next(num_workers, start):
    sampler = ResumableSampler(45, 4, True, num_workers=num_workers)
    sampler.start_at(0, start)
    loader = DataLoader(
        Plans(),
        sampler=sampler,
        batch_size=None,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
        collate_fn=lambda item: item,
    )
    plans_of = {}
    for worker, plan in loader:
        plans_of.setdefault(worker, []).append(plan)
    assert len(plans_of) == max(1, num_workers)
    for plans in plans_of.values():
        for plan, following in itertools.pairwise(plans):
            assert plan.ahead == following.rows
        assert plans[-1].ahead == []


def test_a_batch_that_does_not_divide_names_one_that_does():
    with pytest.raises(ValueError, match=r"data\.batch_size=30 .* 4 ranks; type data\.batch_size=28"):
        ResumableSampler(100, 30, True, num_ranks=4)
    with pytest.raises(ValueError, match=r"type data\.batch_size=4"):
        ResumableSampler(100, 3, True, num_ranks=4)


def test_too_few_images_are_told():
    with pytest.raises(ValueError, match=r"7 images are too few for one batch of data\.batch_size=8"):
        ResumableSampler(7, 8, True)
    with pytest.raises(ValueError, match="3 images are too few for 4 ranks"):
        ResumableSampler(3, 8, False, num_ranks=4)
    assert rows(ResumableSampler(3, 8, False)) == [[0, 1, 2]]
