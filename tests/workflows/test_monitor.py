"""From a server to a verdict: the log that serve.py writes, and what monitor.py makes of it, in folders and buckets."""

import io
import json
import pathlib
import shutil
import signal

import pytest
from imported import help_and_imports
from monitored import export_with_baseline, logged, photo, write_log
from PIL import Image
from served import serving
from untrained import CALIBRATION, write_checkpoint

from stocktake.metrics.calibration import Calibration
from stocktake.serving.baseline import Baseline
from stocktake.serving.predictor import Predictor
from stocktake.workflows.export import export
from stocktake.workflows.monitor import monitor

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts/monitor.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_with_baseline(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def quiet(model, tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("quiet"), logged(model, range(5000, 5300)))


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_what_the_server_logs_the_command_judges(model, tmp_path, run_script, capsys):
    with serving(model, tmp_path / "stderr", f"prediction_log={tmp_path / 'log'}", "log=null") as served:
        for number in range(6000, 6110):
            file = io.BytesIO()
            Image.fromarray(photo(number)).save(file, "PNG")
            asked = {
                "content": file.getvalue(),
                "headers": {"Content-Type": "image/png", "X-Request-Id": f"bin-{number}"},
            }
            assert served.client.post("/invocations", **asked).status_code == 200
        photos = [tmp_path / "shelf 7.png", tmp_path / "00004.png"]
        for number, path in enumerate(photos):
            Image.fromarray(photo(number)).save(path)
        images = ",".join(f"'{path}'" for path in photos)
        assert run_script("predict.py", f"images=[{images}]", f"endpoint={served.url}", "json=true") == 0
        served.stop(signal.SIGTERM)
    words = [f"log={tmp_path / 'log'}", f"baseline={model}", f"output_dir={tmp_path / 'out'}"]
    feedback = tmp_path / "counted.csv"
    feedback.write_text("request_id,count\nbin-6000,3\nbin-6001,1\n")
    assert run_script("monitor.py", *words, "last_days=1", f"feedback={feedback}") == 0
    summary = last_line(capsys)
    assert (summary["is_drift"], summary["num_answers"], summary["error_share"]) == (False, 112, 0)
    assert 0 <= summary["live_accuracy"]["value"] <= 1
    figures = json.loads((tmp_path / "out/monitoring.json").read_text())
    assert figures["feedback"]["num_matched"] == 2 and figures["figures"]["brightness"]["num_measured"] == 112
    page = (tmp_path / "out/monitoring.html").read_text()
    assert "<h1>Quiet: brightness-1</h1>" in page and "True counts" in page
    feedback.write_text("image_id,count\nshelf 7,3\n00004,1\n")
    assert run_script("monitor.py", *words, f"feedback={feedback}") == 0
    assert json.loads((tmp_path / "out/monitoring.json").read_text())["feedback"]["num_matched"] == 2


def test_drift_ends_with_1_and_says_what_has_moved(model, tmp_path, run_script, capsys):
    dark = write_log(tmp_path / "log", logged(model, range(5000, 5200), lambda pixels: pixels // 2), '{"half')
    words = [f"log={dark}", f"baseline={model}", f"output_dir={tmp_path / 'out'}"]
    assert run_script("monitor.py", *words) == 1
    told = capsys.readouterr()
    summary = json.loads(told.out.splitlines()[-1])
    assert summary["is_drift"] and "brightness" in summary["drifted"] and "width_px" not in summary["drifted"]
    assert "Brightness: mean" in told.out and "Damaged lines that are left out: 1, such as" in told.err
    assert "<h1>Drift: brightness-1</h1>" in (tmp_path / "out/monitoring.html").read_text()


def test_all_may_lie_in_a_bucket(model, quiet, s3, tmp_path, compose):
    bucket = tmp_path / "buckets/bins"
    shutil.copytree(quiet, bucket / "log")
    shutil.copytree(model, bucket / "model")
    words = ["log=s3://bins/log", "baseline=s3://bins/model", "output_dir=s3://bins/monitoring"]
    assert monitor(compose("monitor", *words)).alarms == []
    assert (bucket / "monitoring/monitoring.html").is_file() and (bucket / "monitoring/monitoring.json").is_file()


def test_an_older_model_ends_with_what_to_type(model, quiet, tmp_path, run_script, capsys):
    facts = json.loads((model / "model.json").read_text())
    del facts["baseline"]
    (tmp_path / "model.json").write_text(json.dumps(facts))
    assert run_script("monitor.py", f"log={quiet}", f"baseline={tmp_path}", f"output_dir={tmp_path}") == 1
    error = capsys.readouterr().err
    assert "was exported before models had a baseline.json" in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["log=nowhere"], "nowhere holds no file of JSON lines"),
        (["false_alarms=1"], "false_alarms=1 is wrong: false_alarms takes a number above 0 and at most 0.5"),
        (["feedback=nowhere.csv"], "feedback=nowhere.csv does not exist"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_type(model, quiet, run_script, capsys, words, told):
    assert run_script("monitor.py", f"log={quiet}", f"baseline={model}", *words) == 1
    assert told in capsys.readouterr().err


def test_a_schedule_runs_what_was_typed_in_aws(tmp_path, run_script, capsys):
    folders = ["log=s3://bins/log", "baseline=s3://bins/model", "last_days=7", "output_dir=s3://bins/monitoring"]
    role = "arn:aws:iam::123456789012:role/Stocktake"
    image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-monitoring:1"
    roles = [f"schedule.role_arn={role}", f"schedule.scheduler_role_arn={role}", f"schedule.image_uri={image_uri}"]
    file = tmp_path / "the request.json"
    assert run_script("monitor.py", *folders, *roles, f"++schedule.request={file}") == 0
    told = capsys.readouterr().out
    assert f"aws scheduler create-schedule --cli-input-json 'file://{file}'" in told
    job = json.loads(json.loads(file.read_text())["Target"]["Input"])
    assert job["AppSpecification"]["ContainerArguments"] == folders


def test_a_schedule_names_all_that_is_missing_at_once(tmp_path, run_script, capsys):
    words = ["log=here", "baseline=s3://bins/model", f"schedule.request={tmp_path / 'request.json'}"]
    assert run_script("monitor.py", *words, "schedule.role_arn=null") == 1
    told = capsys.readouterr().err
    for expected in ("log=here is not in s3://", "output_dir=runs/monitoring is not", "schedule.role_arn is not set"):
        assert expected in told
    assert not (tmp_path / "request.json").exists()


def test_help_is_quick_and_has_a_line_for_cron(tmp_path):
    shown, imported = help_and_imports(SCRIPT, tmp_path)
    assert "0 6 * * 1  cd" in shown and "ends with 1 on drift" in shown
    assert not imported & {"torch", "boto3", "matplotlib"}


def test_an_exported_model_has_its_baseline_and_takes_a_recalibration(synthetic_root, tmp_path, compose):
    checkpoint = write_checkpoint(tmp_path, synthetic_root)
    export(compose("export", f"checkpoint={checkpoint}", "num_checked=2", "num_baseline=6"))
    facts = json.loads((tmp_path / "model/model.json").read_text())
    baseline = Baseline.from_bytes((tmp_path / "model/baseline.json").read_bytes())
    assert facts["baseline"]["num_images"] == baseline.num_images == 6
    assert baseline.probabilities_MK.sum(1) == pytest.approx([1] * 6, abs=1e-4)
    assert baseline.limits.keys() == baseline.figures.keys()

    hotter = Calibration(**{**CALIBRATION.to_dict(), "temperature": 3.0, "threshold": 0.05})
    file = tmp_path / "recalibration.json"
    own = {"calibration": hotter.to_dict(), "checkpoint_sha256": facts["checkpoint_sha256"], "model_version": "v"}
    file.write_text(json.dumps(own))
    words = ["num_checked=2", "num_baseline=2", f"output_dir={tmp_path / 'again'}", f"calibration={file}"]
    export(compose("export", f"checkpoint={checkpoint}", *words))
    again = json.loads((tmp_path / "again/model.json").read_text())
    assert again["calibration"]["temperature"] == 3.0 and again["version"] == f"{facts['version']}-t3.000"
    image = next(pathlib.Path(synthetic_root).rglob("*.jpg")).read_bytes()
    before, after = (Predictor.open(str(tmp_path / name)).predict(image) for name in ("model", "again"))
    assert before.count == after.count and after.probabilities[after.count] < before.probabilities[before.count]

    for change, told in [({"checkpoint_sha256": "0"}, "of another checkpoint"), ({"calibration": {}}, "is none that")]:
        file.write_text(json.dumps(own | change))
        with pytest.raises(ValueError, match=told):
            export(compose("export", f"checkpoint={checkpoint}", *words))
