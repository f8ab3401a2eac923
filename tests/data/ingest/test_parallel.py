"""Many requests at once: each item once, whatever the machine allows, and an end at the first error."""

import os

import pytest

from stocktake.data.ingest.parallel import in_turn


def refuse(*_):
    raise PermissionError("this sandbox has no other scheduling")


@pytest.mark.parametrize("is_allowed", [True, False])
def test_every_item_comes_once_where_scheduling_is_forbidden_too(monkeypatch, is_allowed):
    if not is_allowed:
        monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    done, steps = [], []
    in_turn(range(500), done.append, num_at_once=16, advance=lambda: steps.append(1))
    assert sorted(done) == list(range(500))
    assert len(steps) == 500


def test_the_first_error_ends_it():
    done = []

    def work(item):
        if item == 10:
            raise ValueError("item 10")
        done.append(item)

    with pytest.raises(ValueError, match="item 10"):
        in_turn(range(100_000), work, num_at_once=2)
    assert len(done) < 100_000 - 1
