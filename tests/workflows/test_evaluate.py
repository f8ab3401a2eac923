"""What an evaluation says of what the model has seen: nothing where all is well, and else before any figure."""

import json

import numpy
import pyarrow.parquet
import pytest
from untrained import CALIBRATION, COUNTS, write_checkpoint

from stocktake.data.identity import DataIdentity
from stocktake.data.ingest.ingest import Ingest
from stocktake.data.manifest import Manifest
from stocktake.data.sources.abid import AbidSource
from stocktake.data.split import SplitRule
from stocktake.run_folder import WouldReplaceError
from stocktake.storage import Folder
from stocktake.workflows.evaluate import default_output_dir, evaluate


@pytest.fixture(scope="module")
def other_root(synthetic_source, tmp_path_factory):
    """The same bins, with others to test on."""
    folder = tmp_path_factory.mktemp("split-again")
    source = AbidSource(Folder(str(synthetic_source)))
    Ingest(source, Folder(str(folder)), source.listing(), SplitRule(block=1, seed=1)).run()
    return folder


def identity(root) -> DataIdentity:
    manifest = Manifest.read(Folder(str(root)))
    return DataIdentity.of(manifest, manifest.rows("train"))


@pytest.fixture
def evaluated(compose, synthetic_root, tmp_path, capsys):
    """Evaluates a model that says what it was trained on; returns metrics.json, the page and the printed lines."""

    def run(*words, data=None):
        checkpoint = write_checkpoint(tmp_path, synthetic_root, data=data)
        evaluate(compose("evaluate", f"checkpoint={checkpoint}", *words, "num_workers=0", "accelerator=cpu"))
        (folder,) = tmp_path.glob("evaluation-*")
        lines = capsys.readouterr().out.splitlines()
        page = (folder / "report.html").read_text(encoding="utf-8")
        return json.loads((folder / "metrics.json").read_text()), page, lines

    return run


def test_a_model_that_has_seen_none_of_the_bins_is_told_so_in_figures_alone(evaluated, synthetic_root):
    metrics, page, lines = evaluated(data=identity(synthetic_root))
    assert metrics["leakage"] == json.loads(lines[-1])["leakage"] == 0
    assert metrics["train_manifest_sha256"] == metrics["manifest_sha256"]
    assert "trained on" not in page[: page.index("<nav")]
    assert not any("trained on" in line for line in lines)


def test_figures_with_mirror_images_say_so_and_do_not_replace_those_without(evaluated, synthetic_root):
    plain, *_ = evaluated("limit=20")
    with pytest.raises(WouldReplaceError, match="flip_tta is False there, True here"):
        evaluated("limit=20", "flip_tta=true")
    mirrored, page, lines = evaluated("limit=20", "flip_tta=true", "overwrite=true")
    assert (plain["flip_tta"], mirrored["flip_tta"]) == (False, True)
    note = "counted together with its mirror image"
    assert note in page[: page.index("<nav")] and any(note in line for line in lines)


def test_bins_are_ranked_for_a_recount_by_the_calibrated_score(evaluated, tmp_path):
    evaluated("limit=20")
    rows = pyarrow.parquet.read_table(tmp_path / "evaluation-test" / "predictions.parquet").to_pylist()
    for row in rows:
        tempered = numpy.array(row["probabilities"]) ** (1 / CALIBRATION.temperature)
        assert row["mismatch_score"] == pytest.approx(1 - tempered[COUNTS.index(row["count"])] / tempered.sum())


def test_bins_that_were_trained_on_are_the_headline(evaluated, synthetic_root, other_root):
    seen = set(Manifest.read(Folder(str(synthetic_root))).rows("train")["image_id"].to_pylist())
    tested = Manifest.read(Folder(str(other_root))).rows("test")["image_id"].to_pylist()
    num_seen = len(seen.intersection(tested))
    assert 0 < num_seen < len(tested)
    metrics, page, lines = evaluated(f"root={other_root}", data=identity(synthetic_root))
    assert metrics["leakage"] == num_seen
    leak = f"Leak: the model was trained on {num_seen} of these {len(tested)} test bins."
    assert lines[0].startswith(leak)
    assert lines[1].startswith("This is another dataset than the model was trained on: manifest.parquet is ")
    assert next(iter(json.loads(lines[-1]).items())) == ("leakage", num_seen)
    assert leak in page[: page.index("<h1>")]


def test_the_training_bins_themselves_are_no_leak(evaluated, synthetic_root):
    metrics, page, lines = evaluated("split=train", data=identity(synthetic_root))
    assert metrics["leakage"] == metrics["num_images"] == json.loads(lines[-1])["leakage"]
    assert lines[
        0
    ] == f"The model was trained on {metrics['leakage']} of these {metrics['num_images']} bins: on new " + (
        "ones it will do worse."
    )
    assert "Leak" not in page


def test_an_old_checkpoint_cannot_tell(evaluated):
    metrics, page, lines = evaluated("limit=20")
    assert metrics["leakage"] is metrics["train_manifest_sha256"] is None
    assert lines[0] == "Whether the model was trained on some of these bins, its checkpoint does not say."
    assert lines[0] in page and json.loads(lines[-1])["leakage"] is None


def test_how_many_bins_it_was_trained_on_is_what_the_checkpoint_says_and_not_what_the_root_has_now(
    evaluated, synthetic_root
):
    manifest = Manifest.read(Folder(str(synthetic_root)))
    rows = manifest.rows("train")
    assert rows.num_rows > 7
    metrics, _, _ = evaluated("limit=20", data=DataIdentity.of(manifest, rows.slice(0, 7)))
    assert metrics["num_train_bins"] == 7


@pytest.mark.parametrize(
    ("checkpoint", "folder"),
    [
        ("runs/demo/checkpoints/best.ckpt", "runs/demo/evaluation-test"),
        ("/runs/demo/checkpoints/best.ckpt", "/runs/demo/evaluation-test"),
        ("checkpoints/best.ckpt", "evaluation-test"),
        ("file:///runs/demo/checkpoints/best.ckpt", "/runs/demo/evaluation-test"),
        ("elsewhere/best.ckpt", "runs/best/evaluation-test"),
        ("s3://bucket/run/checkpoints/best.ckpt", "runs/best/evaluation-test"),
        ("gs://bucket/run/checkpoints/best.ckpt", "runs/best/evaluation-test"),
    ],
)
def test_an_evaluation_lies_beside_the_run_or_below_runs(checkpoint, folder):
    assert str(default_output_dir(checkpoint, "test")) == folder
