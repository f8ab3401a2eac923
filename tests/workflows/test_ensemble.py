"""Several runs as one model: what it says, what is written, and which members are refused."""

import json
from dataclasses import replace

import numpy
import pytest
import torch
from untrained import COUNTS, write_checkpoint

from stocktake.callbacks.calibration import CALIBRATION_KEY
from stocktake.checkpoints import Checkpoint, CheckpointError, read_checkpoint, start_from
from stocktake.data.datamodule import BinDataModule
from stocktake.data.identity import DataIdentity
from stocktake.data.manifest import Manifest
from stocktake.metrics.calibration import Calibration
from stocktake.storage import Folder
from stocktake.workflows.ensemble import combine
from stocktake.workflows.evaluate import evaluate


def combined(compose, checkpoints, output, *words):
    names = ",".join(map(str, checkpoints))
    return combine(compose("ensemble", f"checkpoints=[{names}]", f"output_dir={output}", "num_workers=0", *words))


@torch.inference_mode()
def said(checkpoint, images_BCSS, flip_tta=False):
    model = Checkpoint.open(str(checkpoint)).model
    model.flip_tta = flip_tta
    return model.predict_step({"images": images_BCSS, "image_ids": []})["probabilities"]


@pytest.fixture
def pair(synthetic_root, tmp_path):
    return [
        write_checkpoint(tmp_path / "a", synthetic_root, "softmax", seed=1),
        write_checkpoint(tmp_path / "b", synthetic_root, "corn", seed=2),
    ]


@pytest.mark.parametrize("flip_tta", [False, True])
def test_it_says_the_mean_of_what_its_members_say(compose, pair, tmp_path, flip_tta):
    images_BCSS = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    together = combined(compose, pair, tmp_path / "all", "limit=20")["checkpoint"]
    first, second = (said(path, images_BCSS, flip_tta) for path in pair)
    assert not torch.allclose(first, second, atol=0.05)
    torch.testing.assert_close(said(together, images_BCSS, flip_tta), (first + second) / 2)


def test_it_is_calibrated_on_the_validation_bins(compose, synthetic_root, pair, tmp_path, capsys):
    gist = combined(compose, pair, tmp_path / "all")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == gist
    module = BinDataModule(str(synthetic_root), 64, 32, counts=COUNTS, num_workers=0)
    batches = [(said(gist["checkpoint"], batch["images"]), batch["counts"]) for batch in module.loader("valid")]
    probabilities_NK = torch.cat([found for found, _ in batches]).double().numpy()
    classes_N = numpy.searchsorted(COUNTS, torch.cat([counts for _, counts in batches]).numpy())
    expected = Calibration.fit(probabilities_NK, classes_N, COUNTS)
    written = Calibration.from_dict(read_checkpoint(gist["checkpoint"])[CALIBRATION_KEY])
    assert written.temperature == pytest.approx(expected.temperature, rel=1e-4)
    assert written.threshold == pytest.approx(expected.threshold, abs=1e-5)
    assert json.loads((tmp_path / "all/checkpoints/calibration.json").read_text()) == written.to_dict()
    assert gist["num_images"] == len(classes_N)
    assert gist["valid/accuracy"] == pytest.approx((probabilities_NK.argmax(1) == classes_N).mean())


def test_it_is_evaluated_like_a_run(compose, pair, tmp_path):
    together = combined(compose, pair, tmp_path / "all")["checkpoint"]
    gist = evaluate(compose("evaluate", f"checkpoint={together}", "num_workers=0"))
    assert gist["report"] == str(tmp_path / "all/evaluation-test/report.html")
    assert (tmp_path / "all/evaluation-test/predictions.parquet").exists()


def test_members_that_do_not_fit_together_are_refused(compose, synthetic_root, pair, tmp_path):
    other = write_checkpoint(tmp_path / "c", synthetic_root, resize="letterbox")
    with pytest.raises(CheckpointError, match=r"c/checkpoints/best.ckpt was trained with data.resize=letterbox"):
        combined(compose, [pair[0], other], tmp_path / "all")
    for checkpoints in (pair[:1], [pair[0], pair[0]]):
        with pytest.raises(CheckpointError, match=r"two or more are needed, each once"):
            combined(compose, checkpoints, tmp_path / "all")
    together = combined(compose, pair, tmp_path / "all", "limit=20")["checkpoint"]
    with pytest.raises(CheckpointError, match=r"is an ensemble. Type its members' checkpoints"):
        combined(compose, [pair[0], together], tmp_path / "more")


def test_no_model_is_overwritten(compose, pair, tmp_path):
    before = pair[0].read_bytes()
    with pytest.raises(CheckpointError, match=r"holds a model already"):
        combined(compose, pair, pair[0].parents[1])
    assert pair[0].read_bytes() == before


def test_a_root_that_was_moved_is_named(compose, synthetic_root, pair, tmp_path):
    moved = write_checkpoint(tmp_path / "c", f"{synthetic_root}-as-it-was-called")
    with pytest.raises(CheckpointError, match=r"If both are the same dataset, type root="):
        combined(compose, [pair[0], moved], tmp_path / "all")
    assert combined(compose, [pair[0], moved], tmp_path / "all", f"root={synthetic_root}", "limit=20")["num_images"]


def test_a_training_does_not_start_from_an_ensemble(compose, pair, tmp_path):
    together = combined(compose, pair, tmp_path / "all", "limit=20")["checkpoint"]
    with pytest.raises(CheckpointError, match=r"is an ensemble. Type the checkpoint of one of its members"):
        start_from(Checkpoint.open(str(pair[0])).model, together)


@pytest.fixture
def identities(synthetic_root):
    """What the dataset's training bins are, and what they would be if another split had mixed the sides."""
    manifest = Manifest.read(Folder(str(synthetic_root)))
    own = DataIdentity.of(manifest, manifest.rows("train", None, COUNTS))
    mixed = DataIdentity.of(manifest, manifest.rows("all", 30, COUNTS))
    return own, replace(mixed, manifest_sha256="0" * 64)


def test_a_member_that_has_seen_validation_bins_is_refused_by_name(compose, synthetic_root, identities, tmp_path):
    own, mixed = identities
    checkpoints = [
        write_checkpoint(tmp_path / "a", synthetic_root, data=own),
        write_checkpoint(tmp_path / "b", synthetic_root, seed=1, data=mixed),
    ]
    with pytest.raises(
        CheckpointError, match=r"b/checkpoints/best\.ckpt was trained on \d+ of the \d+ validation bins"
    ):
        combined(compose, checkpoints, tmp_path / "all")
    assert not (tmp_path / "all/checkpoints").exists()


def test_an_ensemble_knows_what_all_its_members_have_seen(compose, synthetic_root, identities, tmp_path, capsys):
    own, _ = identities
    half = replace(own, id_hashes_N=own.id_hashes_N[::2], image_hashes_N=own.image_hashes_N[::2])
    checkpoints = [
        write_checkpoint(tmp_path / "a", synthetic_root, data=half),
        write_checkpoint(tmp_path / "b", synthetic_root, seed=1, data=replace(own, manifest_sha256="0" * 64)),
    ]
    together = combined(compose, [path.parents[1] for path in checkpoints], tmp_path / "all", "limit=20")
    assert (
        "b/checkpoints/best.ckpt was trained on another manifest.parquet (0000000000000000" in capsys.readouterr().err
    )
    seen = Checkpoint.open(str(tmp_path / "all")).data
    assert seen.id_hashes_N.tolist() == own.id_hashes_N.tolist()
    assert seen.num_train_bins == own.num_train_bins
    assert together["checkpoint"] == str(tmp_path / "all/checkpoints/best.ckpt")
