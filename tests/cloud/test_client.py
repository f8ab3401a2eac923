"""Jobs over a real socket that breaks, throttles and lies in between; and what is left of a damaged result."""

import gzip
import io
import json
import tarfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.config import Config

from stocktake.cloud.client import JobError, Jobs
from stocktake.cloud.monitor import FollowedJob, follow
from stocktake.cloud.progress import PlainBoard
from stocktake.cloud.request_types import TrainingJobRequest
from stocktake.cloud.requests import training_job
from stocktake.cloud.retries import Patience, Unavailable
from stocktake.storage import Folder

DESCRIBED = {
    "TrainingJobName": "demo",
    "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/demo",
    "ModelArtifacts": {"S3ModelArtifacts": "s3://bins/demo/output/model.tar.gz"},
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 10},
    "OutputDataConfig": {"S3OutputPath": "s3://bins/jobs"},
    "StoppingCondition": {},
    "CreationTime": 0,
}
RUNS = DESCRIBED | {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}
ENDED = DESCRIBED | {"TrainingJobStatus": "Completed", "SecondaryStatus": "Completed"}
STREAMS = {"logStreams": [{"logStreamName": "demo/algo-1-123"}]}
LOG = {"events": [{"message": "step=7/9 valid/accuracy=0.5", "timestamp": 0}], "nextForwardToken": "f/1"}
SENT = {"TrainingJobArn": DESCRIBED["TrainingJobArn"]}
# Answers that are none: the HTTP status and the body, or nothing at all.
THROTTLED = (400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
BROKEN = (500, {"__type": "InternalFailure", "message": ""})
LOGIN_PAGE = (511, "<html>Please log in to the hotel's network")
CLOSED = None


class Aws:
    """Answers each operation with its list of answers in turn, the last one for ever."""

    def __init__(self):
        self.answers: dict[str, list] = {}
        self.asked: list[str] = []
        aws = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                operation = self.headers["X-Amz-Target"].partition(".")[2]
                aws.asked.append(operation)
                answers = aws.answers[operation]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer is CLOSED:
                    self.close_connection = True
                    return
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                content = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def jobs(self, patience: Patience, open_folder: Callable[[str], Folder] = Folder) -> Jobs:
        session = boto3.Session("id", "key", region_name="us-east-1")
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=2)
        url = f"http://127.0.0.1:{self.http.server_port}"
        sagemaker, logs = (session.client(name, endpoint_url=url, config=config) for name in ("sagemaker", "logs"))
        return Jobs(sagemaker, logs, open_folder, patience=patience)


@pytest.fixture
def aws():
    server = Aws()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_following_survives_throttling_a_blip_and_a_login_page_and_says_so_once(aws, capsys):
    aws.answers = {
        "DescribeTrainingJob": [RUNS, THROTTLED, CLOSED, RUNS, THROTTLED, THROTTLED, ENDED],
        "DescribeLogStreams": [STREAMS, CLOSED, STREAMS],
        "GetLogEvents": [LOG, THROTTLED, LOGIN_PAGE, BROKEN, LOG | {"events": []}],
    }
    job = FollowedJob("demo")
    with PlainBoard() as screen:
        follow(aws.jobs(Patience(screen.say, first_pause_s=0.002)), [job], screen, 0.01, 900)
    told = capsys.readouterr().out
    assert (job.status, job.step, job.metrics) == ("Completed", 7, {"valid/accuracy": 0.5})
    assert told.count("ThrottlingException") == 1
    assert told.count("asking again") == 4, "throttled, closed, another network's page, AWS's own fault"
    assert "AWS answers again" in told


def test_an_instance_type_is_changed_in_spite_of_throttling(aws, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    waits = DESCRIBED | {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Pending"}
    stopped = DESCRIBED | {"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"}
    aws.answers = {
        "DescribeTrainingJob": [waits, THROTTLED, waits, THROTTLED, stopped, ENDED],
        "DescribeLogStreams": [{"logStreams": []}],
        "StopTrainingJob": [CLOSED, {}],
        "CreateTrainingJob": [THROTTLED, SENT],
    }
    others = [json.loads(json.dumps(request("demo-try2")))]
    job = FollowedJob("demo", others)
    with PlainBoard() as screen:
        follow(aws.jobs(Patience(screen.say)), [job], screen, 0, capacity_wait_s=0)
    assert (job.name, job.status) == ("demo-try2", "Completed")


def request(name: str) -> TrainingJobRequest:
    return training_job(
        name,
        "arn:aws:iam::123456789012:role/Stocktake",
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14",
        "s3://bins/code",
        "s3://bins/config",
        "s3://bins/jobs",
    )


def test_a_job_whose_answer_was_lost_is_not_refused(aws):
    taken = (400, {"__type": "ResourceInUse", "message": "Training job names must be unique"})
    aws.answers = {"CreateTrainingJob": [CLOSED, taken]}
    jobs = aws.jobs(Patience(lambda _: None, first_pause_s=0.002))
    jobs.submit(request("demo"))
    aws.answers = {"CreateTrainingJob": [taken]}
    with pytest.raises(JobError, match=r"type another hydra.launcher.job_name"):
        jobs.submit(request("demo"))


def test_without_an_answer_for_long_it_is_told_and_a_refusal_is_not_repeated(aws):
    aws.answers = {"DescribeTrainingJob": [THROTTLED]}
    jobs = aws.jobs(Patience(lambda _: None, first_pause_s=0.002, longest_silence_s=0.05))
    with pytest.raises(Unavailable, match="Rate exceeded"):
        jobs.describe("demo")
    denied = (400, {"__type": "AccessDeniedException", "message": "No."})
    aws.answers, aws.asked = {"DescribeTrainingJob": [denied]}, []
    with pytest.raises(JobError, match="ask for a policy"):
        jobs.describe("demo")
    assert len(aws.asked) == 1


def test_who_may_not_read_the_log_still_sees_how_the_job_ends(aws, capsys):
    aws.answers = {
        "DescribeTrainingJob": [RUNS, ENDED],
        "DescribeLogStreams": [(400, {"__type": "AccessDeniedException", "message": "No."})],
    }
    job = FollowedJob("demo")
    with PlainBoard() as screen:
        follow(aws.jobs(Patience(screen.say)), [job], screen, 0.01, 900)
    assert job.status == "Completed"
    assert capsys.readouterr().out.count("demo is followed without its log") == 1
    assert aws.asked.count("DescribeLogStreams") == 1


def archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "damaged"),
        (b"not a tar at all", "damaged"),
        (archive(a=b"x" * 100_000)[:-40], "damaged"),
        (gzip.compress(b"x" * 2000, mtime=0), "damaged"),
        (archive(**{"run__metrics.json": b'{"valid/acc'}), "damaged"),
        (archive(**{"..__outside": b"x"}), "damaged"),
        (archive(**{"run__log.txt": b"x"}), "there is no metrics.json"),
        (archive(**{"run__metrics.json": b"[1]"}), "damaged"),
    ],
)
def test_a_damaged_result_is_that_jobs_error_and_leaves_nothing(aws, tmp_path, content, told):
    aws.answers = {"DescribeTrainingJob": [ENDED]}
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "output.tar.gz").write_bytes(content)
    jobs = aws.jobs(Patience(), lambda _: Folder(str(tmp_path / "s3")))
    with pytest.raises(JobError, match=told):
        jobs.results("demo", tmp_path / "results" / "demo")
    assert not list((tmp_path / "results").rglob("*metrics.json"))
    assert [path.name for path in tmp_path.iterdir()] in (["s3", "results"], ["results", "s3"])


def test_a_whole_result_comes_with_all_its_files(aws, tmp_path):
    aws.answers = {"DescribeTrainingJob": [ENDED]}
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "output.tar.gz").write_bytes(archive(**{"metrics.json": b'{"a": 1}', "log__x.csv": b"1"}))
    jobs = aws.jobs(Patience(), lambda _: Folder(str(tmp_path / "s3")))
    assert jobs.results("demo", tmp_path / "results" / "demo") == {"a": 1}
    assert (tmp_path / "results" / "demo" / "log" / "x.csv").read_text() == "1"
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["demo"]
