"""scripts/deploy.py target=batch as it is typed: real photos in a real S3 server, a rehearsed account, its servers."""

import io
import json
from types import SimpleNamespace

import pyarrow.parquet
import pytest
from account import Account
from hosted import IMAGE, ROLE, export_failing
from local_s3 import local_s3
from served import export, gray_image

from stocktake.cloud import batch_jobs, service_calls
from stocktake.data.ingest.ingest import Ingest
from stocktake.data.manifest import Manifest
from stocktake.data.sources.abid import AbidSource
from stocktake.data.split import SplitRule
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.hosting import Hosting
from stocktake.rehearsal.signature import SessionKey
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder

COUNTS = [1, 2, 3, 4, 5]
ROOT, PHOTOS = "s3://bins/root", "s3://bins/photos"


class Batch:
    """An account with photos in its S3, and a model."""

    def __init__(self, server: RehearsalServer, model):
        self.server, self.sagemaker, self.model = server, server.client("sagemaker"), model

    def jobs(self, name: str) -> list[str]:
        found = self.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
        return [job["TransformJobName"] for job in found]


@pytest.fixture(scope="module")
def there(tmp_path_factory, abid_root):
    """Eight real bins as a dataset root, and two of their photos beside a large image and what is none."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "buckets" / "bins").mkdir(parents=True)
    (folder / "model").mkdir()
    with local_s3(folder / "buckets") as s3, Account() as account, pytest.MonkeyPatch.context() as environment:
        account.usd_an_hour = 0.1
        environment.delenv("AWS_PROFILE", raising=False)
        for name, value in (s3.environment() | account.environment()).items():
            environment.setenv(name, value)
        with (
            Hosting(folder / "hosting", time_scale=0.01) as hosting,
            RehearsalServer(hosting=hosting, key=SessionKey(s3.access_key, s3.secret_key)) as server,
        ):
            for service in ("SAGEMAKER", "CLOUDWATCH_LOGS"):
                environment.setenv(f"AWS_ENDPOINT_URL_{service}", server.url)
            source = AbidSource(Folder(str(abid_root)))
            listed = [one for one in source.listing() if one.count in COUNTS][:8]
            Ingest(source, Folder(ROOT), listed, SplitRule(block=1), counts=COUNTS, max_bad_fraction=0.5).run()
            photos = Folder(PHOTOS)
            for name, row in zip(
                ("a.jpg", "b/c.jpg"), Manifest.read(Folder(ROOT)).rows("all").to_pylist(), strict=False
            ):
                photos.write(name, Folder(ROOT).read(row["key"]))
            photos.write("cut.jpg", photos.read("a.jpg")[:500])
            photos.write("large.png", gray_image(125, size=(1600, 1600), compress_level=0))  # above 6 MB
            photos.write("notes.txt", b"of no interest")
            yield Batch(server, export(folder / "model"))


@pytest.fixture
def typed(there, run_script, tmp_path):
    """Returns what types the command, and gives its exit code."""

    def typed(name: str, *words: str, model=there.model) -> int:
        account = ("bucket=bins", f"role_arn={ROLE}", f"image_uri={IMAGE}", "poll_s=0.1")
        batch = ("target=batch", f"model={model}", f"name={name}", f"output={tmp_path}")
        return run_script("deploy.py", *batch, *account, *words)

    return typed


@pytest.fixture
def counted(there, typed, capsys):
    """A root that was counted; typed again it costs nothing."""
    assert typed("nightly", f"input={ROOT}", "split=all", "yes=true") == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def predictions(folder) -> pyarrow.Table:
    return pyarrow.parquet.read_table(io.BytesIO((folder / "predictions.parquet").read_bytes()))


def test_a_root_is_counted_as_the_predictor_counts_it(there, counted, tmp_path):
    root, predictor = Folder(ROOT), Predictor.open(str(there.model))
    rows = Manifest.read(root).rows("all").to_pylist()
    assert (counted["status"], counted["num_images"], counted["missing"]) == ("Completed", len(rows), 0)
    found = predictions(tmp_path).to_pylist()
    assert [row["image_id"] for row in found] == [row["image_id"] for row in rows]
    for row, kept in zip(found, rows, strict=True):
        expected = predictor.predict(root.read(kept["key"]), kept["count"])
        assert row["probabilities"] == pytest.approx([*expected.probabilities.values()], abs=1e-4)
        assert row["predicted"] == expected.count
        assert row["mismatch_score"] == pytest.approx(expected.mismatch_score, abs=1e-4)
        assert (row["count"], row["split"], row["group"]) == (kept["count"], kept["split"], kept["group"])
    assert (tmp_path / "missing.jsonl").read_text() == ""
    assert there.sagemaker.list_models()["Models"] == []


def test_typed_again_it_takes_the_job_of_before(there, counted, typed, capsys, tmp_path):
    (tmp_path / "predictions.parquet").unlink()
    assert typed("nightly", f"input={ROOT}", "split=all") == 0, "nobody needs to be asked"
    assert f"{counted['job']} was begun before" in capsys.readouterr().out
    assert predictions(tmp_path).num_rows == counted["num_images"]
    assert there.jobs("nightly-") == [counted["job"]]


def test_an_answer_that_is_missing_or_broken_is_told(there, counted, typed, capsys, tmp_path):
    answers = Folder(f"s3://bins/stocktake/endpoints/nightly/{counted['job']}/answers")
    lost, broken = Manifest.read(Folder(ROOT)).rows("all").to_pylist()[:2]
    kept = {key: answers.read(key) for key in (f"{lost['key']}.out", f"{broken['key']}.out")}
    answers.remove(f"{lost['key']}.out")
    answers.write(f"{broken['key']}.out", b"{}")
    try:
        assert typed("nightly", f"input={ROOT}", "split=all", "batch.max_bad_fraction=0.5") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["missing"] == 2
        named = [json.loads(line) for line in (tmp_path / "missing.jsonl").read_text().splitlines()]
        assert [one["image_id"] for one in named] == [lost["image_id"], broken["image_id"]]
        assert predictions(tmp_path).num_rows == counted["num_images"] - 2
        assert typed("nightly", f"input={ROOT}", "split=all") == 1, "another job is needed, and nobody is asked"
        told = capsys.readouterr()
        assert f"2 of {counted['num_images']} answers are missing from it (Completed): one more job" in told.out
        assert "Nobody is here to be asked" in told.err
    finally:
        for key, content in kept.items():
            answers.write(key, content)


def test_too_many_photos_that_cannot_be_read_fail_the_command(there, typed, capsys, tmp_path):
    words = ("photos", f"input={PHOTOS}", "batch.payload_mb=12")
    assert typed(*words, "yes=true") == 1
    told = capsys.readouterr()
    assert "1 x ml.c6i.large: 0.10 USD an hour, until the job ends." in told.out
    assert "Usually: an image was refused" in told.out
    assert "  | " in told.out and "photos/cut.jpg: Bad HTTP status received from algorithm: 422" in told.out
    assert "is Failed, and 1 of 4 images have no answer" in told.err
    (first,) = there.jobs("photos-")
    assert json.loads((tmp_path / f"{first}-missing.jsonl").read_text())["image_id"] == "cut"
    assert not (tmp_path / "predictions.parquet").exists()
    assert typed(*words, "batch.max_bad_fraction=0.5") == 0, "what is there is taken"
    table = predictions(tmp_path)
    assert table["image_id"].to_pylist() == ["a", "b-c", "large"]
    assert table.column_names == ["image_id", "predicted", "probabilities"], "no manifest says more"
    assert typed(*words, "yes=true") == 1
    assert predictions(tmp_path) == table, "what an earlier job left stays"
    assert there.jobs("photos-") == [f"{first[:-1]}2", first], "a job that lacks too much is begun anew"


def test_what_is_uploaded_for_a_job_is_not_counted(there, typed, capsys):
    words = ("own", f"input={PHOTOS}", "prefix=photos/jobs", "batch.payload_mb=12", "batch.max_bad_fraction=0.5")
    assert typed(*words, "yes=true") == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (first["num_images"], first["missing"]) == (4, 1)
    assert typed(*words) == 0, "the same job: what it left is no image of the folder"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["job"] == first["job"]


def test_a_wait_that_is_broken_off_goes_on_and_is_not_paid_twice(there, typed, capsys, monkeypatch, tmp_path):
    words = ("night", f"input={ROOT}", "split=all", "yes=true")

    def ctrl_c(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(service_calls, "time", SimpleNamespace(sleep=ctrl_c))
        assert typed(*words) == 130
    told = capsys.readouterr().err
    assert "A job that has begun goes on" in told
    assert "To stop it: python scripts/deploy.py target=batch action=stop name=night" in told
    assert typed(*words) == 0
    assert len(there.jobs("night-")) == 1
    assert predictions(tmp_path).num_rows == Manifest.read(Folder(ROOT)).rows("all").num_rows
    assert there.sagemaker.list_models()["Models"] == []


def test_a_job_can_be_left_alone_looked_at_and_stopped(there, typed, capsys, tmp_path):
    (tmp_path / "model").mkdir()
    never_ready = export_failing(tmp_path / "model", answers_ping=False)
    words = ("left", f"input={ROOT}", "split=all", "yes=true", "wait=false")
    assert typed(*words, model=never_ready) == 0
    job = json.loads(capsys.readouterr().out.splitlines()[-1])["job"]
    assert typed(*words, model=never_ready) == 0, "it runs"
    assert there.jobs("left-") == [job]
    assert typed("left", "action=stop") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"stopped": [job]}
    assert typed("left", "action=status") == 0
    told = capsys.readouterr().out
    assert f"{job}: Stopped" in told
    assert json.loads(told.splitlines()[-1]) == {"running": []}
    assert there.sagemaker.list_models()["Models"] == []


def test_what_is_sent_again_because_its_answer_got_lost_is_taken(there):
    jobs, folder = batch_jobs.BatchJobs(there.server.client), "s3://bins/twice"
    Folder(folder).write("model.tar.gz", b"never unpacked, because there is nothing to count")
    job = batch_jobs.BatchJob("twice", ROLE, IMAGE, "ml.c6i.large", num_instances=1, num_at_once=4, payload_mb=6)
    name = f"{job.stem('0' * 64, '1' * 64)}-1"
    calls = job.calls(name, f"{folder}/model.tar.gz", "s3://bins/nothing/", False, f"{folder}/answers")
    for call in [*calls, *calls]:
        jobs.send(call)
    described = jobs.wait(name, print, poll_s=0.1)
    assert "No S3 objects found" in described["FailureReason"]
    assert there.jobs("twice-") == [name]
    assert there.sagemaker.list_models()["Models"] == []
