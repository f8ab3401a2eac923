"""/metrics beside the baseline: the figures are those of scripts/monitor.py, and what docs/ ask for is served."""

import json
import re
from dataclasses import replace

import pytest
import yaml
from monitored import export_with_baseline, logged
from prometheus_client.parser import text_string_to_metric_families
from served import REPOSITORY, gray_image, listening

from stocktake.metrics.drift import ks
from stocktake.serving.app import create_app
from stocktake.serving.baseline import WATCHED
from stocktake.serving.drift_watch import DriftWatch
from stocktake.serving.model_folder import ModelFolderError, read_baseline
from stocktake.serving.prediction_log import PredictionLog
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder

METRIC = re.compile(r"\bstocktake_\w+")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_with_baseline(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def metrics(model, tmp_path_factory):
    """The text of /metrics after as many answers as are watched, one count and one refusal, and these answers."""
    predictor = Predictor.open(str(model))
    watch = DriftWatch(read_baseline(model, predictor.model))
    log = PredictionLog(Folder(str(tmp_path_factory.mktemp("log"))), on_logged=watch.add)
    watch.watch(log)
    answers = logged(model, range(WATCHED + 7), lambda pixels: pixels // 2)
    for answer in answers:
        watch.add(answer)
    watch.add(replace(answers[0], status=422, probabilities=None, count=None))
    with listening(create_app(predictor, collectors=[watch])) as client:
        client.post("/invocations", content=gray_image(), headers={"Content-Type": "image/png"})
        client.post("/invocations", content=b"x", headers={"Content-Type": "image/png"})
        text = client.get("/metrics").text
    log.close()
    return text, answers[7:]


def test_the_last_answers_are_compared_as_the_command_compares_them(model, metrics):
    text, last = metrics
    families = {family.name: family for family in text_string_to_metric_families(text)}
    distances = {sample.labels["figure"]: sample.value for sample in families["stocktake_drift_ks"].samples}
    limits = {sample.labels["figure"]: sample.value for sample in families["stocktake_drift_ks_limit"].samples}
    baseline = read_baseline(model, json.loads((model / "model.json").read_text()))
    assert baseline
    wanted = ks(baseline.figures["brightness"], [answer.brightness for answer in last])
    assert distances["brightness"] == pytest.approx(wanted) and wanted > limits["brightness"]
    assert distances["width_px"] == 0
    assert families["stocktake_watched_answers"].samples[0].value == WATCHED
    confidence = sum(max(answer.probabilities.values()) for answer in last) / WATCHED
    assert families["stocktake_expected_accuracy"].samples[0].value == pytest.approx(confidence, abs=1e-4)


def test_a_window_that_is_not_full_says_nothing_of_drift(model):
    watch = DriftWatch(read_baseline(model, json.loads((model / "model.json").read_text())))
    watch.add(logged(model, [1])[0])
    assert [metric.name for metric in watch.collect()] == ["stocktake_watched_answers"]


@pytest.mark.parametrize("file", ["grafana/stocktake.json", "alerts.yaml"])
def test_every_metric_that_a_dashboard_or_a_rule_names_is_served(metrics, file):
    text = (REPOSITORY / "docs" / file).read_text()
    if file.endswith("json"):
        asked = [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    else:
        asked = [rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
        assert set(METRIC.findall(text)) - set(METRIC.findall(" ".join(asked))) == {"stocktake_refused_total"}
    served = set(METRIC.findall("\n".join(line for line in metrics[0].splitlines() if not line.startswith("#"))))
    named = set(METRIC.findall(" ".join(asked)))
    assert len(named) > 5 and named <= served


def test_a_baseline_that_is_not_the_model_s_is_refused(model, tmp_path):
    facts = json.loads((model / "model.json").read_text())
    assert read_baseline(tmp_path, {}) is None  # of before there were any
    with pytest.raises(ModelFolderError, match=r"baseline\.json cannot be read"):
        read_baseline(tmp_path, facts)
    (tmp_path / "baseline.json").write_bytes((model / "baseline.json").read_bytes()[:-2] + b" \n")
    with pytest.raises(ModelFolderError, match=r"is not the file that model\.json describes. Copy the whole folder"):
        read_baseline(tmp_path, facts)
