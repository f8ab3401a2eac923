"""The whole way of the data in S3, on a real server over real sockets: prepare, train, resume, evaluate."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from local_s3 import Faults

from stocktake.callbacks.spot import SpotCheckpoint
from stocktake.data.datamodule import BinDataModule
from stocktake.data.loading.dataset import ChangedObject
from stocktake.evaluation.training_history import read_history
from stocktake.storage import Folder, StorageError, StorageOptions
from stocktake.workflows.evaluate import evaluate
from stocktake.workflows.prepare import prepare
from stocktake.workflows.train import EXIT_INTERRUPTED, train


@pytest.fixture
def s3_root(s3, synthetic_source, compose):
    prepare(compose("prepare", f"source={synthetic_source}", "root=s3://bins/root", "split.block=1"))
    return "s3://bins/root"


def test_prepare_train_and_evaluate_in_s3(s3_root, compose, tmp_path, capsys):
    root = Folder(s3_root)
    keys = [key for key, _ in root.sizes("data")]
    rows = BinDataModule(s3_root, batch_size=8).manifest.table.to_pylist()
    assert sorted(keys) == sorted(row["key"] for row in rows if row["key"])
    used = [row for row in rows if row["key"]]
    assert used and all(row["key"] == "data/{split}/{count}/{image_id}.jpg".format(**row) for row in used)

    words = [
        "experiment=resnet50_spot", "model=small", "logger=csv", f"data.root={s3_root}", "data.image_size_px=32",
        "data.batch_size=8", "data.limit=16", "data.num_workers=0", "trainer.max_epochs=1", "callbacks.progress=null",
        "checkpoint_dir=s3://bins/run/checkpoints", f"data.cache_dir={tmp_path / 'cache'}",
    ]  # fmt: skip
    value = train(compose("train", *words, output_dir=str(tmp_path / "run")))
    assert 0 <= value <= 1
    used = [row for row in rows if row["key"]]
    assert used and all(row["key"] == "data/{split}/{count}/{image_id}.jpg".format(**row) for row in used)

    words = ["checkpoint=s3://bins/run/checkpoints/best.ckpt", f"output_dir={tmp_path / 'evaluation'}"]
    evaluate(compose("evaluate", *words, "num_workers=0", "limit=10"))
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["num_images"] == 10
    report = Path(summary["report"]).read_text(encoding="utf-8")
    assert f"{summary['accuracy']:.0%}".rstrip("%") in report and "Learning curves" in report


def test_a_run_is_resumed_from_its_checkpoint_in_s3_on_another_machine(s3_root, compose, tmp_path, monkeypatch):
    words = [
        "experiment=resnet50_spot", "model=small", "logger=csv", f"data.root={s3_root}", "data.image_size_px=32",
        "data.batch_size=8", "data.limit=24", "data.num_workers=0", "callbacks.progress=null", "trainer.max_epochs=2",
        "checkpoint_dir=s3://bins/run/checkpoints", "callbacks.spot.every_n_train_steps=1",
    ]  # fmt: skip

    with monkeypatch.context() as patched:
        patched.setattr(SpotCheckpoint, "_is_any_rank_signaled", lambda _, trainer: trainer.global_step == 4)
        with pytest.raises(SystemExit) as end:
            train(compose("train", *words, output_dir=str(tmp_path / "first")))
    assert end.value.code == EXIT_INTERRUPTED
    assert state_in_s3("step-00000004.ckpt")["global_step"] == 4

    train(compose("train", *words, output_dir=str(tmp_path / "second")))
    steps = [row["step"] for row in read_history(tmp_path / "second")]
    assert min(steps) >= 4
    assert state_in_s3("step-00000006.ckpt")["global_step"] == 6


def state_in_s3(name: str) -> dict:
    return torch.load(io.BytesIO(Folder("s3://bins/run/checkpoints").read(name)), weights_only=True)


def loaded(root: str, num_workers: int, rank: int, options: StorageOptions) -> dict[str, torch.Tensor]:
    """Returns every image that one of two ranks gets in an epoch of training, by its id."""
    module = BinDataModule(root, batch_size=8, image_size_px=32, num_workers=num_workers, storage=options)
    module.trainer = SimpleNamespace(global_rank=rank, world_size=2)
    images: dict[str, torch.Tensor] = {}
    for batch in module.loader("train", shuffle=True):
        for image_id, image in zip(batch["image_ids"], batch["images"], strict=True):
            assert image_id not in images
            images[image_id] = image
    return images


def test_an_epoch_over_faulty_sockets_is_whole_and_unchanged(s3, s3_root, synthetic_root):
    options = StorageOptions(max_retries=20)
    s3.set_faults(Faults(slow_down=0.10, reset=0.02, truncate=0.02, shorten=0.02, seed=1))
    ranks = [loaded(s3_root, 2, rank, options) for rank in (0, 1)]
    assert sum(s3.requests().get(fault, 0) for fault in ("slow_down", "reset", "truncate", "shorten")) > 0
    s3.set_faults(Faults())
    expected = [loaded(str(synthetic_root), 0, rank, options) for rank in (0, 1)]
    assert not ranks[0].keys() & ranks[1].keys()
    for got, wanted in zip(ranks, expected, strict=True):
        assert got.keys() == wanted.keys()
        assert all(torch.equal(got[image_id], wanted[image_id]) for image_id in wanted)


def test_a_server_that_only_answers_503_is_given_up_with_the_bucket_and_the_cure(s3, s3_root):
    s3.set_faults(Faults(slow_down=1.0))
    with pytest.raises(StorageError, match=r"s3://bins/root.*storage\.retry_timeout_s"):
        Folder(s3_root, StorageOptions(max_retries=2, retry_timeout_s=2)).read("manifest.parquet")


def test_an_overwritten_object_is_named(s3_root):
    module = BinDataModule(s3_root, batch_size=8, image_size_px=32, num_workers=0)
    key = module.manifest.rows("train")["key"][0].as_py()
    Folder(s3_root).write(key, b"another picture")
    with pytest.raises(ChangedObject, match=key):
        list(module.loader("train"))


def test_a_wrong_secret_is_told_with_the_bucket(s3, s3_root, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"s3://bins/root.*storage\.profile"):
        Folder(s3_root).read("manifest.parquet")
