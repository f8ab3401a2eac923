"""Evaluations against each other: the command itself on made-up ones of which the answer is known."""

import json
import pathlib

import numpy
import obstore
import pyarrow
import pyarrow.parquet
import pytest
import scipy.stats
from evaluation_results import make_calibration
from imported import help_and_imports
from paired_evaluations import BLOCK, COUNTS, GROUPS, IDS, NUM_BLOCKS, RECORDED, SCORES, said, write
from sklearn.metrics import accuracy_score, mean_absolute_error, root_mean_squared_error

from stocktake.data.manifest import SCHEMA, Manifest
from stocktake.evaluation.results import Evaluation, EvaluationError, read_evaluations, short_names
from stocktake.metrics.significance import sign_flip_test
from stocktake.run_folder import sealed
from stocktake.storage import Folder, StorageOptions

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "compare.py"


@pytest.fixture
def compared(run_script, capsys, tmp_path):
    """Compares folders; returns comparison.json, the page, and what the terminal shows."""

    def compare(places, *words):
        quoted = ",".join(f'"{place}"' for place in places)
        assert run_script("compare.py", f"evaluations=[{quoted}]", f"output_dir={tmp_path / 'out'}", *words) == 0
        return (
            json.loads((tmp_path / "out" / "comparison.json").read_text()),
            (tmp_path / "out" / "comparison.html").read_text(),
            capsys.readouterr().out,
        )

    return compare


def test_two_evaluations_are_measured_and_subtracted(compared, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    models = {"weak": said(0.2, 1), "strong": said(0.7, 2)}
    places = [write(tmp_path / name / "evaluation-test", model) for name, model in models.items()]
    comparison, page, shown = compared(places)
    recipes = {recipe["name"]: recipe["measures"] for recipe in comparison["recipes"]}
    assert list(recipes) == ["weak", "strong"] and comparison["baseline"] == "weak"
    truth = COUNTS[RECORDED]
    for name, model in models.items():
        predicted = COUNTS[model.argmax(1)]
        expected = {
            "accuracy": accuracy_score(truth, predicted),
            "within_one": numpy.mean(abs(truth - predicted) <= 1),
            "mae": mean_absolute_error(truth, predicted),
            "rmse": root_mean_squared_error(truth, predicted),
            "rmse_expected": root_mean_squared_error(truth, model @ COUNTS),
        }
        for measure, value in expected.items():
            estimate = recipes[name][measure]
            assert estimate["value"] == pytest.approx(value), measure
            assert estimate["low"] < value < estimate["high"]
    (other,) = comparison["comparisons"]
    for measure, difference in other["differences"].items():
        expected = recipes["strong"][measure]["value"] - recipes["weak"][measure]["value"]
        assert difference["value"] == pytest.approx(expected), measure
        assert difference["low"] < expected < difference["high"], measure
    hits = [model.argmax(1) == RECORDED for model in models.values()]
    assert other["bins"] == {
        "both": (hits[0] & hits[1]).sum(),
        "only_baseline": (hits[0] & ~hits[1]).sum(),
        "only_other": (~hits[0] & hits[1]).sum(),
        "neither": (~hits[0] & ~hits[1]).sum(),
    }
    assert other["p_value"] == other["p_value_holm"] < 0.001
    assert "it is clearly better (p &lt; 0.001)" in page
    assert "it is clearly better (p < 0.001)" in " ".join(shown.split())
    summary = json.loads(shown.splitlines()[-1])
    assert summary["comparisons"][0]["accuracy"] == other["differences"]["accuracy"]
    assert summary["report"] == str(tmp_path / "out" / "comparison.html")


def test_a_pair_is_sharper_than_its_two_intervals(compared, tmp_path):
    model = said(0.5, 3)
    better = model.copy()
    wrong = numpy.flatnonzero(model.argmax(1) != RECORDED)[::5]  # one in five of its mistakes put right
    better[wrong] = 0.9 * numpy.eye(3)[RECORDED[wrong]] + 0.1 / 3
    comparison, *_ = compared([write(tmp_path / "a", model), write(tmp_path / "b", better)])
    a, b = (recipe["measures"]["accuracy"] for recipe in comparison["recipes"])
    difference = comparison["comparisons"][0]["differences"]["accuracy"]
    assert b["low"] < a["high"] and difference["low"] > 0
    assert comparison["comparisons"][0]["bins"]["only_baseline"] == 0


def test_runs_of_one_name_stand_for_it_by_their_mean(compared, tmp_path):
    models = [said(skill, seed) for seed, skill in enumerate([0.4, 0.45, 0.5, 0.6])]
    places = [write(tmp_path / str(number), model) for number, model in enumerate(models)]
    comparison, page, shown = compared(places, "names=[1e-3,best,1e-3,best]")
    exact = [accuracy_score(RECORDED, model.argmax(1)) for model in models]
    first, second = comparison["recipes"]
    assert [first["name"], second["name"]] == ["0.001", "best"] and first["evaluations"] == places[::2]
    assert first["measures"]["accuracy"]["runs"] == pytest.approx(exact[::2])
    assert first["measures"]["accuracy"]["value"] == pytest.approx(numpy.mean(exact[::2]))
    (other,) = comparison["comparisons"]
    assert other["differences"]["accuracy"]["value"] == pytest.approx(numpy.mean(exact[1::2]) - numpy.mean(exact[::2]))
    hits = [model.argmax(1) == RECORDED for model in models]
    pairs = [(hits[a] & hits[b]).sum() for a in (0, 2) for b in (1, 3)]
    assert other["bins"]["both"] == pytest.approx(numpy.mean(pairs))
    ahead_G = (hits[1] * 1 + hits[3] - hits[0] - hits[2]).reshape(NUM_BLOCKS, BLOCK).sum(1)
    assert other["p_value"] == sign_flip_test(ahead_G)
    spread = sorted(exact[::2])
    assert f"2 runs: {100 * spread[0]:.1f}–{100 * spread[1]:.1f}" in page
    assert "mean of 2 runs" in shown and "another seed would" not in page


def test_several_comparisons_are_corrected_for(compared, tmp_path):
    places = [write(tmp_path / name, said(skill, 5)) for name, skill in (("a", 0.4), ("b", 0.5), ("c", 0.7))]
    comparison, page, _ = compared(places)
    p_values = [other["p_value"] for other in comparison["comparisons"]]
    assert min(p_values) == p_values[1]
    assert [other["p_value_holm"] for other in comparison["comparisons"]] == [
        max(p_values[0], 2 * p_values[1]),
        2 * p_values[1],
    ]
    assert "b and c against a" in page and "for 2 comparisons (Holm)" in page


def test_a_single_block_has_differences_without_intervals(compared, tmp_path):
    places = [write(tmp_path / name, said(0.5, seed), ids=IDS[:BLOCK]) for seed, name in enumerate("ab")]
    comparison, page, _ = compared(places)
    for estimate in comparison["comparisons"][0]["differences"].values():
        assert estimate["value"] is not None and estimate["low"] is estimate["high"] is None
    assert comparison["comparisons"][0]["p_value"] == 1
    assert "nan" not in page.lower() and "None" not in page


def test_a_model_that_was_trained_on_the_bins_is_the_headline(compared, tmp_path):
    places = [write(tmp_path / "a", said(0.5, 1), leakage=0), write(tmp_path / "b", said(0.7, 2), leakage=21)]
    comparison, page, shown = compared(places)
    leak = f"Leak: b was trained on 21 of these {len(IDS)} test bins"
    assert shown.startswith(leak)
    assert leak in page[: page.index("<h1>")]
    assert json.loads(shown.splitlines()[-1])["leakage"] == {"a": [0], "b": [21]}
    assert [recipe["leakage"] for recipe in comparison["recipes"]] == [[0], [21]]


def test_evaluations_from_before_cannot_tell_a_leak(compared, tmp_path):
    places = [write(tmp_path / "a", said(0.5, 1), leakage=0), write(tmp_path / "b", said(0.7, 2), leakage=None)]
    _, page, shown = compared(places)
    told = "Whether b was trained on some of these bins, the evaluations do not say."
    assert shown.startswith(told) and told in page and "Leak" not in page


def test_two_models_that_agree_on_every_bin_may_differ_on_others(compared, tmp_path):
    places = [write(tmp_path / name, said(0.5, 1)) for name in "ab"]
    comparison, page, _ = compared(places)
    differences = comparison["comparisons"][0]["differences"]
    exact = scipy.stats.binomtest(0, NUM_BLOCKS).proportion_ci(method="exact")
    assert differences["accuracy"] == pytest.approx({"value": 0, "low": -exact.high, "high": exact.high})
    assert differences["rmse"] == {"value": 0, "low": None, "high": None}
    assert "nan" not in page.lower()


def test_a_model_that_was_always_right_may_err_yet(compared, tmp_path):
    places = [write(tmp_path / "a", said(0.5, 1)), write(tmp_path / "b", numpy.eye(3)[RECORDED])]
    accuracy = compared(places)[0]["recipes"][1]["measures"]["accuracy"]
    exact = scipy.stats.binomtest(NUM_BLOCKS, NUM_BLOCKS).proportion_ci(method="exact")
    assert accuracy.pop("runs") == [1]
    assert accuracy == pytest.approx({"value": 1, "low": exact.low, "high": 1})


def test_an_evaluation_without_calibration_has_no_calibration_error(compared, tmp_path):
    places = [write(tmp_path / "a", said(0.4, 1)), write(tmp_path / "b", said(0.5, 2), calibration=None)]
    comparison, page, _ = compared(places)
    assert comparison["comparisons"][0]["differences"]["ece"]["value"] is None
    assert comparison["recipes"][0]["measures"]["ece"]["value"] > 0
    assert "n/a" in page and "nan" not in page.lower()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest_sha256": "77aa"}, r"manifest_sha256 is 9f2c in .*a and 77aa in .*b\. .*with root="),
        ({"split": "valid"}, r"split is test in .* and valid in .*\. Evaluate again with split=test"),
        ({"counts": [1, 2, 4]}, r"counts is \[1, 2, 3\] in .* and \[1, 2, 4\]"),
        (
            {"ids": IDS[:-4]},
            r"of other bins than .*: 4 bins \(00236, 00237, 00238, \.\.\.\) are missing, 0 bins are more",
        ),
        ({"num_images": 7}, r"about 7 bins .*about 240 .*not of one evaluation.*checkpoint=runs/made-up"),
        ({"accuracy": {"value": 0.99}}, r"accuracy of 0\.9900.*not of one evaluation"),
        ({"drop": ["probabilities"]}, r"lacks the columns \['probabilities'\]. Evaluate again"),
    ],
)
def test_what_cannot_be_compared_is_named_with_its_cure(tmp_path, changes, message):
    model = said(0.5, 1)
    places = [write(tmp_path / "a", model), write(tmp_path / "b", model, **changes)]
    with pytest.raises(EvaluationError, match=message):
        read_evaluations(places, StorageOptions())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *[
            (content, "is empty, cut off or damaged")
            for content in (b"", b'{"split": "te', b"\xff\xfe\0", b"[" * 200_000)
        ],
        (b"[]", "holds a list"),
        ({"counts": "123"}, "has counts='123'"),
        (
            {"counts": [1, 2], "confusion_matrix": [[1, 0], [0, 1]]},
            r"has bins of 3 items, and metrics\.json is of counts=\[1, 2\]",
        ),
        ({"counts": [1, 2, 3, 4]}, r"confusion_matrix with rows of \[3, 3, 3\] numbers, and counts=\[1, 2, 3, 4\]"),
        (
            {"counts": [1, 2, 3, 4], "confusion_matrix": [[0] * 4] * 4, "per_count": dict.fromkeys("1234", SCORES)},
            "4 probabilities that sum to 1 are needed",
        ),
        *[({"accuracy": value}, "has accuracy=") for value in (0.5, {"value": None}, {"value": float("nan")})],
        ({"rmse": {"value": "<b>"}}, "has rmse holds '<b>'"),
        ({"checkpoint": {}}, "has checkpoint="),
        ({"root": None}, "has root='None'"),
        ({"calibration": 7}, "has calibration='7'"),
        ({"calibration": {"temperature": -1}}, "calibration lacks"),
        ({"leakage": "<b>none"}, "has leakage="),
        ({"num_train_bins": "many"}, "has num_train_bins='many'"),
        ({"predictions_sha256": "0" * 64}, r"predictions\.parquet in .* is not the file that was written with"),
    ],
)
def test_metrics_that_no_evaluation_wrote_are_refused_in_words(tmp_path, content, message):
    place = write(tmp_path / "a", said(0.5, 1))
    path = tmp_path / "a" / "metrics.json"
    path.write_bytes(
        content if isinstance(content, bytes) else json.dumps(json.loads(path.read_bytes()) | content).encode()
    )
    with pytest.raises(EvaluationError, match=f"{message}.*Evaluate again"):
        Evaluation.read(place, StorageOptions())


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        *[
            ("probabilities", row, r"of bin 00000: 3 probabilities that sum to 1")
            for row in ([float("nan")] * 3, [3.0, 0.0, 0.0], [1.5, -0.5, 0.0], [1.0], [None, 0.5, 0.5])
        ],
        ("probabilities", None, "has a row without probabilities"),
        ("count", None, "has a row without count"),
        ("count", 99, "has bins of 99 items"),
        ("image_id", IDS[1], "names a bin twice"),
        ("image_id", None, "has a row without image_id"),
        ("group", None, "has a row without group"),
    ],
)
def test_rows_that_no_model_said_are_refused_in_words(tmp_path, column, value, message):
    place = write(tmp_path / "a", said(0.5, 1))
    path = tmp_path / "a" / "predictions.parquet"
    table = pyarrow.parquet.read_table(path)
    values = pyarrow.array([value, *table[column].to_pylist()[1:]], table.schema.field(column).type)
    pyarrow.parquet.write_table(table.set_column(table.schema.get_field_index(column), column, values), path)
    with pytest.raises(EvaluationError, match=rf"predictions\.parquet in .* {message}.*Evaluate again"):
        Evaluation.read(place, StorageOptions())


@pytest.mark.parametrize(("figure", "turned"), [('"temperature": 1.2', '"temperature": 1.6'), ("9f2c", "9f2b")])
def test_a_figure_whose_bits_turned_is_noticed(tmp_path, figure, turned):
    folder = tmp_path / "run"
    write(folder, said(0.5, 1))
    metrics = json.dumps(sealed(json.loads((folder / "metrics.json").read_text())), indent=2)
    (folder / "metrics.json").write_text(metrics)
    assert Evaluation.read(str(folder), StorageOptions()).result.calibration == make_calibration(temperature=1.2)
    assert figure in metrics
    (folder / "metrics.json").write_text(metrics.replace(figure, turned))
    with pytest.raises(
        EvaluationError, match=r"metrics\.json .* holds other figures than when it was written.*Evaluate"
    ):
        Evaluation.read(str(folder), StorageOptions())


def test_other_records_and_blocks_are_named(tmp_path):
    ours = Evaluation.read(write(tmp_path / "a", said(0.5, 1)), StorageOptions())
    moved = ["5-99", *ours.groups[1:]]
    with pytest.raises(EvaluationError, match=r"has other blocks than .* for 1 bins \(00000\)"):
        ours.require_same_bins(Evaluation("b", ours.result, IDS, moved, ours.labels_N, ours.probabilities_NK))
    with pytest.raises(EvaluationError, match=r"has other records than"):
        ours.require_same_bins(
            Evaluation("b", ours.result, IDS, ours.groups, (ours.labels_N + 1) % 3, ours.probabilities_NK)
        )


def test_the_command_says_what_to_type(run_script, capsys, tmp_path):
    a, b = (write(tmp_path / "runs" / name / "evaluation-test", said(0.5, 1)) for name in "ab")
    for words, message in (
        ([f"evaluations=[{a}]"], "two or more are needed"),
        ([f"evaluations=[{a},{b},{a}]"], f"has {a} twice"),
        ([f"evaluations=[{a},{b}]", "names=[x]"], "one for each of the 2 evaluations"),
        ([f"evaluations=[{a},{b}]", "names=[x,x]"], "two or more that differ"),
        ([f"evaluations=[{a},{tmp_path}/nowhere]"], "Type a folder that scripts/evaluate.py wrote"),
        ([f"evaluations=[{a},{tmp_path}/runs]"], f"holds 2 evaluations. Type one of them: {a}, {b}"),
    ):
        assert run_script("compare.py", *words, f"output_dir={tmp_path / 'out'}") == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_older_evaluation_takes_its_blocks_from_the_dataset_root(tmp_path):
    known = {"image_id": IDS, "group": GROUPS, "count": [1] * len(IDS), "split": ["test"] * len(IDS)}
    known["key"] = [f"data/test/1/{image_id}.jpg" for image_id in IDS]
    rows = {name: [None] * len(IDS) for name in SCHEMA.names} | known
    root = Folder(str(tmp_path / "root"))
    Manifest(pyarrow.table(rows), {"source": "s"}).write(root)
    sha256 = Manifest.read(root).sha256
    older = write(tmp_path / "a", said(0.5, 1), drop=["group"], manifest_sha256=sha256)
    assert Evaluation.read(older, StorageOptions()).groups == GROUPS
    changed = write(tmp_path / "b", said(0.5, 1), drop=["group"])
    with pytest.raises(EvaluationError, match=r"no column `group`.*root has changed since. Evaluate again"):
        Evaluation.read(changed, StorageOptions())
    (tmp_path / "root" / "manifest.parquet").unlink()
    with pytest.raises(EvaluationError, match=r"no column `group`.*cannot be asked: There is no manifest"):
        Evaluation.read(older, StorageOptions())


def test_a_runs_folder_stands_for_its_evaluation_and_both_may_lie_in_s3(compared, s3, tmp_path):
    for name, skill in (("a", 0.3), ("b", 0.7)):
        local = pathlib.Path(write(tmp_path / name, said(skill, 1)))
        for file in local.iterdir():
            obstore.put(Folder("s3://bins").store, f"runs/{name}/evaluation-test/{file.name}", file.read_bytes())
    comparison, *_ = compared(["s3://bins/runs/a", "s3://bins/runs/b/evaluation-test"])
    assert [recipe["name"] for recipe in comparison["recipes"]] == ["a", "b"]
    assert comparison["comparisons"][0]["p_value"] < 0.01


@pytest.mark.parametrize(
    ("urls", "names"),
    [
        (["/r/a/evaluation-test", "/r/b/evaluation-test"], ["a", "b"]),
        (["/r/a/plain", "/r/a/mirrored", "/r/b/plain"], ["a/plain", "a/mirrored", "b/plain"]),
        (["/r/a", "/r/a/again"], ["a", "a/again"]),
        (["s3://bins/runs/a", "s3://bins/runs/b"], ["a", "b"]),
        (["/r/0/evaluation-test", "/r/1/evaluation-test"], ["run 0", "run 1"]),
    ],
)
def test_names_are_what_tells_folders_apart(urls, names):
    assert short_names(urls) == names


def test_help_shows_an_example_and_waits_for_no_torch(tmp_path):
    shown, imported = help_and_imports(SCRIPT, tmp_path)
    assert "scripts/compare.py 'evaluations=[runs/a/evaluation-test" in shown
    assert "hydra.main" in imported
    assert not imported & {"torch", "numpy"}
    assert list(tmp_path.iterdir()) == []
