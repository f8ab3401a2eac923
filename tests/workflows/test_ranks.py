"""Real ranks, by torchrun: they train together, and end together within half a minute where they differ."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

REPOSITORY = pathlib.Path(__file__).parents[2]
WORDS = [
    *("experiment=resnet50_spot", "model=small", "data.image_size_px=32", "data.num_workers=0", "logger=csv"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "model.channels_last=false", "callbacks.progress=null"),
    *("trainer.max_epochs=1", "data.batch_size=16", "data.limit=32", "callbacks.spot.every_n_train_steps=1"),
]
# Each rank gets the words of its own, as if it were on another machine.
BY_RANK = """
import json, os, runpy, sys
folder, words = json.load(open(sys.argv[1]))[int(os.environ["RANK"])]
os.environ["RUN_DIR"] = folder
sys.argv = ["train.py", *words]
runpy.run_path("train.py", run_name="__main__")
"""


def torchrun(tmp_path, by_rank: list[tuple[pathlib.Path, list[str]]]) -> tuple[int, str, float]:
    """Returns the exit code, the output and the seconds."""
    (tmp_path / "by_rank.py").write_text(BY_RANK)
    (tmp_path / "words.json").write_text(json.dumps([[str(folder), words] for folder, words in by_rank]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(by_rank)}"]
    started_s = time.monotonic()
    with open(tmp_path / "output.txt", "w") as output:
        process = subprocess.Popen(
            [*command, str(tmp_path / "by_rank.py"), str(tmp_path / "words.json")],
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its ranks can be ended with it
        )
        try:
            returncode = process.wait(timeout=240)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return returncode, (tmp_path / "output.txt").read_text(), time.monotonic() - started_s


@pytest.fixture
def words(synthetic_root):
    return [*WORDS, f"data.root={synthetic_root}"]


@pytest.mark.slow
def test_ranks_without_a_common_folder_go_on_from_what_both_have(words, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    code, output, _ = torchrun(tmp_path, [(folder, words) for folder in folders])
    assert code == 0, output
    (folders[0] / "metrics.json").unlink()
    newest, before = sorted((folders[0] / "checkpoints").glob("step-*"), reverse=True)
    (folders[1] / "checkpoints").mkdir(exist_ok=True)
    shutil.copy(before, folders[1] / "checkpoints")  # the second host lost the newest, and best.ckpt
    code, output, _ = torchrun(tmp_path, [(folder, words) for folder in folders])
    assert code == 0, output
    step = torch.load(newest, weights_only=True)["global_step"]
    assert json.loads((folders[0] / "metrics.json").read_text())["steps"] == step

    (folders[0] / "metrics.json").unlink()
    shutil.rmtree(folders[1])
    code, output, seconds = torchrun(tmp_path, [(folder, words) for folder in folders])
    assert code != 0
    assert "No checkpoint is on every rank" in output and "rank 1 has none" in output
    assert seconds < 60  # of which half is the start on a busy machine


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["model.optimizer.lr=0.5"], "model.optimizer.lr is 0.002 on rank 0, 0.5 on rank 1"),
        (["data.batch_size=8"], "data.batch_size is 16 on rank 0, 8 on rank 1"),
        (["data.num_train_bins=40"], "data.num_train_bins is None on rank 0, 40 on rank 1"),
    ],
)
def test_ranks_of_other_words_end_with_the_key(words, tmp_path, change, named):
    code, output, seconds = torchrun(tmp_path, [(tmp_path / "run", words), (tmp_path / "run", [*words, *change])])
    assert code != 0
    assert named in output
    assert seconds < 60


@pytest.mark.slow
def test_ranks_with_other_data_end_with_both_hashes(words, synthetic_source, tmp_path):
    from stocktake.data.ingest.ingest import Ingest
    from stocktake.data.sources.abid import AbidSource
    from stocktake.data.split import SplitRule
    from stocktake.storage import Folder

    source, other = AbidSource(Folder(str(synthetic_source))), tmp_path / "other"
    Ingest(source, Folder(str(other)), source.listing(), SplitRule(block=1, seed=7)).run()
    elsewhere = [*words, f"data.root={other}"]
    code, output, seconds = torchrun(tmp_path, [(tmp_path / "run", words), (tmp_path / "run", elsewhere)])
    assert code != 0
    assert "The ranks differ in their data" in output and "manifest.parquet is " in output
    assert seconds < 60


@pytest.mark.slow
def test_a_rank_without_data_ends_the_other_with_its_reason(words, tmp_path):
    elsewhere = [*words, f"data.root={tmp_path}/nothing"]
    code, output, seconds = torchrun(tmp_path, [(tmp_path / "run", words), (tmp_path / "run", elsewhere)])
    assert code != 0
    assert "There is no dataset in data.root=" in output
    assert seconds < 60


@pytest.mark.slow
def test_a_host_without_data_ends_the_other_with_its_reason(words, tmp_path):
    """Each host has a torchrun of its own, which ends no rank on another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        unused_port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--master-addr=127.0.0.1", f"--master-port={unused_port}"]
    elsewhere = [*words, f"data.root={tmp_path}/nothing"]
    hosts = [
        subprocess.Popen(
            [*command, f"--node-rank={rank}", "train.py", *typed],
            cwd=REPOSITORY,
            env={**os.environ, "RUN_DIR": str(tmp_path / "run")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for rank, typed in enumerate([words, elsewhere])
    ]
    try:
        outputs = [host.communicate(timeout=90)[0] for host in hosts]
    finally:
        for host in hosts:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(host.pid, signal.SIGKILL)
    assert all(host.returncode for host in hosts)
    assert "Another rank could not start, so none does. rank 1: There is no dataset in data.root=" in outputs[0]
    assert "There is no dataset in data.root=" in outputs[1]
