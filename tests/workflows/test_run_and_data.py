"""A run knows its data: a root that was split anew is no root to go on with, and what was seen once stays told."""

import pytest
import torch
from recipes import SPOT, TINY, interrupt_at

from stocktake.callbacks.run_data import OtherData
from stocktake.data.identity import DATA_KEY, DataIdentity
from stocktake.data.ingest.ingest import Ingest
from stocktake.data.manifest import Manifest
from stocktake.data.sources.abid import AbidSource
from stocktake.data.split import SplitRule
from stocktake.storage import Folder
from stocktake.workflows.train import EXIT_INTERRUPTED, train


@pytest.fixture(scope="module")
def split_anew(synthetic_source, tmp_path_factory) -> str:
    """The same bins, dealt out to the splits by another seed."""
    folder = tmp_path_factory.mktemp("split-anew")
    source = AbidSource(Folder(str(synthetic_source)))
    Ingest(source, Folder(str(folder)), source.listing(), SplitRule(block=1, seed=7)).run()
    return str(folder)


@pytest.fixture
def run(compose, tmp_path):
    def trained(name: str, root: str, *words: str) -> float:
        return train(compose("train", *words, f"data.root={root}", output_dir=tmp_path / name))

    return trained


def test_neither_an_interrupted_nor_a_finished_run_goes_on_with_other_data(
    run, synthetic_root, split_anew, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(SystemExit) as ended:
            run("spot", str(synthetic_root), *SPOT)
        assert ended.value.code == EXIT_INTERRUPTED
    with pytest.raises(OtherData, match=r"manifest\.parquet was .* run_name=<new>"):
        run("spot", split_anew, *SPOT)
    value = run("spot", str(synthetic_root), *SPOT)
    with pytest.raises(OtherData, match="another dataset"):
        run("spot", split_anew, *SPOT)
    assert run("spot", str(synthetic_root), *SPOT) == value


def test_fine_tuning_on_bins_that_were_split_anew_tells_the_leak_and_keeps_it(
    run, synthetic_root, split_anew, tmp_path, caplog
):
    words = [*TINY, "model.backbone=test_resnet", "data.batch_size=16", "trainer.max_epochs=1"]
    run("first", str(synthetic_root), "experiment=resnet50", *words)
    first = tmp_path / "first/checkpoints/best.ckpt"
    with caplog.at_level("INFO"):
        run("second", split_anew, "experiment=resnet50_finetune", *words, f"checkpoint={first}")
    before, after = Manifest.read(Folder(str(synthetic_root))), Manifest.read(Folder(split_anew))
    seen_ids = set(before.rows("train")["image_id"].to_pylist())
    num_leaked = len(seen_ids & set(after.rows("test")["image_id"].to_pylist()))
    assert num_leaked > 0
    assert f"trained on {num_leaked} of the {after.rows('test').num_rows} test bins" in caplog.text
    state = torch.load(tmp_path / "second/checkpoints/best.ckpt", weights_only=True)[DATA_KEY]
    kept = DataIdentity.from_state(state)
    assert kept.manifest_sha256 == after.sha256
    assert kept.num_train_bins == len(seen_ids | set(after.rows("train")["image_id"].to_pylist()))
    assert kept.num_seen(after, after.rows("test")) == num_leaked
