"""From evaluations' folders to a curve: what is read, what is refused, and what is written."""

import json
import pathlib
from dataclasses import replace

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from evaluation_results import make_result, make_subject
from imported import help_and_imports
from sklearn.metrics import accuracy_score, root_mean_squared_error

from stocktake.evaluation.results import EvaluationError
from stocktake.metrics.estimate import Estimate
from stocktake.workflows.learning_curve import learning_curve

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts/learning_curve.py"
NUM_IMAGES = 400


def write_evaluation(folder: pathlib.Path, num_train_bins: int | None, share_known: float, **changes) -> str:
    """An evaluation whose model knows that share of the bins and says 1, 2 or 3 with equal odds of the others."""
    chance = numpy.random.default_rng(0)  # the same bins are hard for all
    counts = chance.integers(1, 4, NUM_IMAGES)
    known = chance.random(NUM_IMAGES) < share_known
    probabilities = numpy.full((NUM_IMAGES, 3), [0.34, 0.33, 0.33])
    probabilities[known] = numpy.eye(3)[counts[known] - 1]
    table = pyarrow.table(
        {
            "image_id": [f"{number:05d}" for number in range(NUM_IMAGES)],
            "group": [f"5-{number // 10}" for number in range(NUM_IMAGES)],
            "count": pyarrow.array(counts, pyarrow.int32()),
            "predicted": pyarrow.array(probabilities.argmax(1) + 1, pyarrow.int32()),
            "probabilities": probabilities.tolist(),
        }
    )
    subject = make_subject(checkpoint=f"{folder.name}/best.ckpt", manifest_sha256="abc", num_images=NUM_IMAGES)
    exact = Estimate(float((probabilities.argmax(1) + 1 == counts).mean()))
    result = make_result(subject=subject, num_train_bins=num_train_bins)
    metrics = replace(result, metrics={**result.metrics, "accuracy": exact}).to_json()
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics | changes.pop("metrics", {})))
    pyarrow.parquet.write_table(changes.pop("table", lambda table: table)(table), folder / "predictions.parquet")
    return str(folder)


@pytest.fixture
def three(tmp_path) -> list[str]:
    return [
        write_evaluation(tmp_path / "all", 4021, 0.4),
        write_evaluation(tmp_path / "few", 993, 0.1),
        write_evaluation(tmp_path / "half", 1994, 0.25),
    ]


def run(compose, folder: pathlib.Path, evaluations: list[str], *words: str) -> dict:
    chosen = f"evaluations=[{','.join(evaluations)}]"
    return learning_curve(compose("learning_curve", chosen, f"output_dir={folder}/out", "floors.accuracy=0.1", *words))


def test_what_is_written(compose, tmp_path, three, capsys):
    gist = run(compose, tmp_path, three, "floors.rmse_expected=0.1")
    opened, last = capsys.readouterr().out.splitlines()[-2:]
    assert json.loads(last) == gist and opened == f"Open {gist['report']}"
    curve = json.loads((tmp_path / "out/learning_curve.json").read_text())
    assert gist["num_train_bins"] == [993, 1994, 4021]
    assert curve["num_blocks"] == 40
    assert curve["extrapolation"] == {"10000": 2.49, "260000": 64.66}
    table = pyarrow.parquet.read_table(tmp_path / "few/predictions.parquet")
    expected = numpy.array(table["probabilities"].to_pylist()) @ [1, 2, 3]
    first = {metric: measured["points"][0] for metric, measured in curve["metrics"].items()}
    assert first["accuracy"]["value"] == pytest.approx(accuracy_score(table["count"], table["predicted"]))
    assert first["rmse_expected"]["value"] == pytest.approx(root_mean_squared_error(table["count"], expected))
    for metric, measured in curve["metrics"].items():
        for point in measured["points"]:
            assert point["low"] < point["value"] < point["high"]
        asked = gist[f"{metric} at 10000"]
        assert asked["low"] < asked["value"] < asked["high"]
        lasts = [form["predicted"][-1]["value"] for form in measured["forms"]]
        zero, floor, endless = lasts if metric == "accuracy" else [-value for value in lasts]
        assert floor < zero < endless
    assert "<h1>What more training bins bring, from 993 to 4,021</h1>" in pathlib.Path(gist["report"]).read_text()


def test_the_order_of_the_evaluations_does_not_matter(compose, tmp_path, three):
    words = ["floors.rmse_expected=0.1"]
    assert run(compose, tmp_path, three, *words) == run(compose, tmp_path, three[::-1], *words)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"num_train_bins": None}}, r"other does not say num_train_bins.*scripts/evaluate\.py"),
        ({"metrics": {"manifest_sha256": "def"}}, r"manifest_sha256 is abc in .* and def in"),
    ],
)
def test_an_evaluation_that_does_not_fit_is_refused(compose, tmp_path, three, changes, message):
    other = write_evaluation(tmp_path / "other", 3000, 0.3, **changes)
    with pytest.raises(EvaluationError, match=message):
        run(compose, tmp_path, [*three, other])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluations=[]"], r"evaluations=\[\], but two or more"),
        (["predict_at=[0]"], r"predict_at=\[0\] holds \[0\]"),
        (["floors.rmse_expected=-1"], r"floors=.*each with an error of 0 or more"),
        (["floors.accuracy=0.99"], r"floors\.accuracy=0\.99 is not below .* type floors\.accuracy="),
    ],
)
def test_words_that_do_not_fit_are_refused(compose, tmp_path, three, words, message):
    with pytest.raises(ValueError, match=message):
        run(compose, tmp_path, three, "floors.rmse_expected=0.1", *words)


def test_help_shows_the_sweep_and_waits_for_no_torch(tmp_path):
    shown, imported = help_and_imports(SCRIPT, tmp_path)
    assert "data.num_train_bins=1000,2000,4000,null" in shown
    assert "hydra.main" in imported
    assert not imported & {"torch", "boto3", "pytorch_lightning"}
