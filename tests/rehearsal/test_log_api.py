"""A job's log through CloudWatch's interface, as boto3 reads it."""

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from stocktake.cloud.client import Jobs, LogPosition
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.storage import Folder


class Folders:
    def __init__(self, folder: Path):
        self.folder = folder

    def check(self, request):
        raise AssertionError("no job is sent")

    def start(self, job):
        raise AssertionError("no job is sent")

    def log_folder(self, job_name):
        return self.folder / job_name / "logs"


@pytest.fixture
def logs(tmp_path):
    with RehearsalServer(Folders(tmp_path)) as server:
        yield server.client("logs")


def test_whole_lines_come_once_each_with_their_host(logs, tmp_path):
    jobs, position = Jobs(None, logs, Folder), LogPosition()
    assert list(jobs.new_log_lines("demo", position)) == [], "no instance has started yet"
    folder = tmp_path / "demo" / "logs"
    folder.mkdir(parents=True)
    (tmp_path / "demo-2" / "logs").mkdir(parents=True)
    (tmp_path / "demo-2" / "logs" / "algo-1.log").write_text("of another job\n")
    (folder / "algo-1.log").write_text("one\n\ntwo ü\nhal")
    (folder / "algo-2.log").write_bytes(b"\xff\n")
    assert list(jobs.new_log_lines("demo", position)) == [("algo-1", "one"), ("algo-1", "two ü"), ("algo-2", "\ufffd")]
    assert list(jobs.new_log_lines("demo", position)) == []
    with (folder / "algo-1.log").open("a") as log:
        log.write("f a line\n")
    assert list(jobs.new_log_lines("demo", position)) == [("algo-1", "half a line")]


def test_a_long_log_comes_in_pages(logs, tmp_path):
    folder = tmp_path / "demo" / "logs"
    folder.mkdir(parents=True)
    lines = [f"{number:07} " + "x" * 90 for number in range(25_000)]
    (folder / "algo-1.log").write_text("\n".join(lines) + "\n")
    told = Jobs(None, logs, Folder).new_log_lines("demo", LogPosition())
    assert [line for _, line in told] == lines


def test_what_is_not_there_is_refused_as_cloudwatch_does(logs):
    with pytest.raises(ClientError, match="The specified log stream does not exist"):
        logs.get_log_events(logGroupName="g", logStreamName="demo/algo-1")
    with pytest.raises(ClientError, match="is not rehearsed"):
        logs.describe_log_groups()


@pytest.mark.parametrize("job", ["..", "../demo", "/etc", "", "demo-", "a.b"])
def test_no_name_leads_to_another_folder(logs, tmp_path, job):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "algo-1.log").write_text("of nobody's job\n")
    with pytest.raises(ClientError):
        logs.get_log_events(logGroupName="g", logStreamName=f"{job}/algo-1")
    with pytest.raises(ClientError):
        logs.describe_log_streams(logGroupName="g", logStreamNamePrefix=f"{job}/algo-1")


@pytest.mark.parametrize("host", ["../../logs/algo-1", "..", "*", "algo-1/../algo-1", ""])
def test_no_hosts_name_leads_to_another_file(logs, tmp_path, host):
    for folder in ("demo/logs", "logs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "algo-1.log").write_text("seen\n")
    with pytest.raises(ClientError):
        logs.get_log_events(logGroupName="g", logStreamName=f"demo/{host}")


def test_a_token_of_ones_own_is_refused(logs, tmp_path):
    (tmp_path / "demo" / "logs").mkdir(parents=True)
    (tmp_path / "demo" / "logs" / "algo-1.log").write_text("seen\n")
    with pytest.raises(ClientError, match="InvalidParameterException"):
        logs.get_log_events(logGroupName="g", logStreamName="demo/algo-1", nextToken="f/-1")
