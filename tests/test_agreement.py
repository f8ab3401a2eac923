"""Ranks compare what they are about to do over a real store, and end together where they differ."""

import concurrent.futures
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from stocktake.agreement import Agreement, Disagreement, code_sha256, refuse_idle_ranks


@pytest.fixture
def together():
    """Returns what runs a function on two ranks side by side and gives both results or errors."""
    wait = timedelta(seconds=20)
    server = TCPStore("127.0.0.1", 0, is_master=True, timeout=wait)
    clients = [TCPStore("127.0.0.1", server.port, is_master=False, timeout=wait) for _ in range(2)]
    ranks = [Agreement(client, rank, 2, patience_s=10) for rank, client in enumerate(clients)]

    def run(function):
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            futures = [threads.submit(function, rank) for rank in ranks]
        return [future.exception() or future.result() for future in futures]

    yield run  # the server lives as long as the test
    del server


def test_one_rank_agrees_with_itself():
    alone = Agreement.from_environment()
    assert alone.agree("configuration", {"seed": 0}, "") is None
    assert alone.newest_common([("step-2.ckpt", "b"), ("step-1.ckpt", "a")]) == "step-2.ckpt"
    assert alone.newest_common([]) is None


def test_equal_ranks_go_on(together):
    assert together(lambda rank: rank.agree("configuration", {"seed": 0, "data.counts": [1, 2]}, "hint")) == [
        None,
        None,
    ]


def test_each_rank_ends_with_the_key_and_both_values(together):
    errors = together(lambda rank: rank.agree("configuration", {"seed": 0, "lr": 0.1 * (1 + rank.rank)}, "Do this."))
    for error in errors:
        assert isinstance(error, Disagreement)
        assert "differ in their configuration" in str(error)
        assert "lr is 0.1 on rank 0, 0.2 on rank 1" in str(error)
        assert "seed" not in str(error)
        assert str(error).endswith("Do this.")


def test_a_rank_that_ends_before_it_agrees_tells_the_others(together, monkeypatch):
    def meet(rank):
        if rank.rank == 0:
            return rank.gather("progress", "none")
        monkeypatch.setattr(Agreement, "from_environment", classmethod(lambda cls, timeout_s: rank))
        return Agreement.tell_others(ValueError("no data here"))

    first, second = together(meet)
    assert isinstance(first, Disagreement) and "rank 1: no data here" in str(first)
    assert second is None


def test_a_key_that_one_rank_lacks_is_a_difference(together):
    errors = together(lambda rank: rank.agree("configuration", {"more": 1} if rank.rank else {}, ""))
    assert all("more is None on rank 0, 1 on rank 1" in str(error) for error in errors)


def test_all_go_on_from_the_newest_checkpoint_that_all_have(together):
    held = [[("step-3", "c"), ("step-2", "b"), ("step-1", "a")], [("step-2", "b"), ("step-1", "a")]]
    assert together(lambda rank: rank.newest_common(held[rank.rank])) == ["step-2", "step-2"]


def test_an_equal_name_with_other_contents_is_another_checkpoint(together):
    held = [[("step-2", "b"), ("step-1", "a")], [("step-2", "x"), ("step-1", "a")]]
    assert together(lambda rank: rank.newest_common(held[rank.rank])) == ["step-1", "step-1"]


def test_checkpoints_on_some_ranks_alone_are_never_left_in_silence(together):
    errors = together(lambda rank: rank.newest_common([] if rank.rank else [("step-7", "a")]))
    for error in errors:
        assert isinstance(error, Disagreement)
        assert "rank 0 has step-7; rank 1 has none" in str(error)


def test_a_finished_run_is_what_the_first_rank_says(together, tmp_path):
    """Hosts without a shared folder: only the first rank's has metrics.json."""
    whole = {"metrics": {"valid/accuracy": 0.5}, "config": {"seed": 0}}
    assert together(lambda rank: rank.finished(None if rank.rank else whole, tmp_path)) == [whole, whole]
    assert together(lambda rank: Agreement().finished(None, tmp_path)) == [None, None]


def test_a_finished_run_on_another_rank_alone_is_told_with_what_to_do(together, tmp_path):
    for error in together(lambda rank: rank.finished({"metrics": {}} if rank.rank else None, tmp_path)):
        assert isinstance(error, Disagreement)
        assert str(error).startswith(f"Rank 1 has a finished run in {tmp_path}, and rank 0")
        assert "Copy that folder to the host of rank 0" in str(error)


def test_a_rank_that_cannot_start_tells_the_others_why(together):
    def start(rank):
        with rank:
            if rank.rank == 1:
                raise ValueError("There is no manifest.parquet.")
            rank.agree("data", {}, "")

    waiting, failed = together(start)
    assert isinstance(failed, ValueError) and not isinstance(failed, Disagreement)
    assert isinstance(waiting, Disagreement)
    assert "rank 1: There is no manifest.parquet." in str(waiting)


def test_a_rank_that_says_nothing_is_named():
    store = TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=20))
    with pytest.raises(Disagreement, match=r"Ranks \[1\] said nothing of their code for 0.2 s"):
        Agreement(store, 0, 2, patience_s=0.2).agree("code", {}, "")


def test_ranks_that_the_trainer_leaves_idle_are_refused():
    torchrun = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}
    assert refuse_idle_ranks(2, torchrun) is None
    assert refuse_idle_ranks(4, {"WORLD_SIZE": "2"}) is None  # Lightning's own ranks
    with pytest.raises(
        Disagreement, match=r"started 2 ranks, and the Trainer would use 1\. Type neither trainer.devices"
    ):
        refuse_idle_ranks(1, torchrun)


def test_the_code_has_one_digest():
    assert len(code_sha256()) == 64
