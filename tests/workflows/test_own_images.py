"""Images of one's own, in class folders or a CSV, PNG among them: prepared, trained on, evaluated and exported."""

import json

import numpy
import pyarrow.parquet
import pytest
from labeled_images import write_class_folders, write_csv
from recipes import TINY

from stocktake.data.manifest import MANIFEST_KEY, Manifest
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder
from stocktake.workflows.evaluate import evaluate
from stocktake.workflows.export import export
from stocktake.workflows.prepare import prepare
from stocktake.workflows.train import train

NUM_BINS = 60


@pytest.fixture(params=["folders", "csv"])
def source(request, tmp_path, synthetic_source):
    """A folder of class folders, or a CSV whose bins come in groups of three."""
    if request.param == "folders":
        write_class_folders(synthetic_source, tmp_path / "bins", NUM_BINS)
        return tmp_path / "bins"
    write_csv(synthetic_source, tmp_path / "bins.csv", NUM_BINS, num_a_group=3)
    return tmp_path / "bins.csv"


def test_from_images_of_ones_own_to_an_exported_model(source, tmp_path, compose, capsys):
    root, run = tmp_path / "root", tmp_path / "run"
    manifest = prepare(compose("prepare", f"source={source}", f"root={root}"))
    assert manifest is not None and manifest.table.num_rows == NUM_BINS
    assert all(manifest.origin["num_images"][split] > 0 for split in ("train", "valid", "test"))
    assert {key[-4:] for key in Manifest.read(Folder(str(root))).rows("all")["key"].to_pylist()} == {".jpg", ".png"}

    words = [*TINY, f"data.root={root}", "data.batch_size=8", "+trainer.max_steps=1", "trainer.max_epochs=1"]
    train(compose("train", "experiment=resnet50", *words, output_dir=str(run)))
    checkpoint = run / "checkpoints" / "best.ckpt"
    assert checkpoint.is_file()

    evaluate(compose("evaluate", f"checkpoint={checkpoint}", "num_workers=0", "accelerator=cpu"))
    metrics = json.loads((run / "evaluation-test" / "metrics.json").read_text())
    rows = pyarrow.parquet.read_table(run / "evaluation-test" / "predictions.parquet").to_pylist()
    tested = {row["image_id"]: row for row in manifest.table.to_pylist() if row["split"] == "test"}
    assert {row["image_id"]: row["group"] for row in rows} == {name: row["group"] for name, row in tested.items()}
    assert metrics["leakage"] == 0
    assert metrics["num_blocks"] == len({row["group"] for row in rows}) <= len(rows)
    page = (run / "evaluation-test" / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" in page and "nan" not in page.lower().split("<style")[0]

    if source.suffix == ".csv":  # what is exported does not know where its images came from
        return
    export(compose("export", f"checkpoint={checkpoint}", f"root={root}", "num_checked=8"))
    predictor = Predictor.open(str(run / "model"))
    for row in rows:
        answer = predictor.predict((root / tested[row["image_id"]]["key"]).read_bytes())
        assert answer.count == metrics["counts"][numpy.argmax(row["probabilities"])]


@pytest.mark.parametrize(
    ("word", "named"),
    [("list=all", "source="), ("format=abid", "source="), ("format=png", "format=png"), ("counts=[9]", "counts=[9]")],
)
def test_a_wrong_word_is_one_line(source, tmp_path, run_script, capsys, word, named):
    code = run_script("prepare.py", f"source={source}", f"root={tmp_path / 'root'}", word)
    told = "".join(capsys.readouterr())
    assert code != 0
    assert named in told.splitlines()[-1] and "Traceback" not in told
    assert not (tmp_path / "root" / MANIFEST_KEY).exists()


def test_a_forecast_counts_a_request_an_image(source, tmp_path, compose, capsys):
    assert prepare(compose("prepare", f"source={source}", f"root={tmp_path / 'root'}", "dry_run=true")) is None
    told = " ".join(capsys.readouterr().out.split())
    assert f"{NUM_BINS} GET requests to {source} (an image for each of {NUM_BINS} bins)" in told
    assert not (tmp_path / "root").exists()
