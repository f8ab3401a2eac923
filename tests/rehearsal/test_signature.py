"""Who has no key of this very rehearsal starts nothing and reads nothing: asked over a socket, signed or not."""

import http.client
import json
from datetime import datetime

import boto3
import pytest
from botocore.exceptions import ClientError

from stocktake.rehearsal.api_server import MAX_BODY_BYTES, RehearsalServer
from stocktake.rehearsal.signature import SessionKey


class NeverAsked:
    def check(self, request):
        raise AssertionError("nobody may send a job")

    def start(self, job):
        raise AssertionError("nobody may start a job")

    def log_folder(self, job_name):
        raise AssertionError("nobody may see a log")


@pytest.fixture
def server():
    with RehearsalServer(NeverAsked()) as server:
        yield server


def posted(server, body: bytes = b"{}", target: str = "SageMaker.ListTrainingJobs", **headers: str) -> str:
    """Sends a POST as it stands; returns the error's name."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    connection.request("POST", "/", body, {"X-Amz-Target": target} | headers)
    response = connection.getresponse()
    told = json.loads(response.read())
    connection.close()
    assert response.status == 400
    return told["__type"]


@pytest.mark.parametrize("operation", ["SageMaker.CreateTrainingJob", "Logs_20140328.GetLogEvents"])
def test_what_is_not_signed_is_refused(server, operation):
    assert posted(server, target=operation) == "MissingAuthenticationTokenException"
    assert posted(server, target=operation, Authorization="Basic eDp4") == "IncompleteSignatureException"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE"}, "UnrecognizedClientException"),
        ({"aws_secret_access_key": "guessed"}, "InvalidSignatureException"),
        ({"region_name": "eu-central-1"}, "InvalidSignatureException"),
    ],
)
def test_another_key_and_another_region_are_refused(server, changed, code):
    values = {
        "region_name": "us-east-1",
        "aws_access_key_id": server.key.access_key_id,
        "aws_secret_access_key": server.key.secret_access_key,
    }
    assert boto3.Session().client("sagemaker", endpoint_url=server.url, **values).list_training_jobs()
    with pytest.raises(ClientError) as raised:
        boto3.Session().client("sagemaker", endpoint_url=server.url, **values | changed).list_training_jobs()
    assert raised.value.response["Error"]["Code"] == code


def test_a_signature_is_good_for_its_own_words_only(server):
    client, seen = server.client("sagemaker"), []
    client.meta.events.register("before-send", lambda request, **_: seen.append(request))
    client.list_training_jobs()
    headers = {key: value if isinstance(value, str) else value.decode() for key, value in seen[0].headers.items()}
    target = headers.pop("X-Amz-Target")
    headers = {name: headers[name] for name in ("Content-Type", "X-Amz-Date", "Authorization")}
    assert posted(server, b'{"MaxResults": 1}', target, **headers) == "InvalidSignatureException"
    assert posted(server, b"{}", "SageMaker.StopTrainingJob", **headers) == "InvalidSignatureException"
    assert posted(server, b"{}", "Logs_20140328.GetLogEvents", **headers) == "InvalidSignatureException"


def test_an_old_signature_is_refused(server, monkeypatch):
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime(2020, 1, 1))
    with pytest.raises(ClientError, match="Signature expired: 20200101T000000Z"):
        server.client("sagemaker").list_training_jobs()


def test_every_rehearsal_has_a_key_of_its_own():
    first, second = SessionKey(), SessionKey()
    assert first.access_key_id != second.access_key_id
    assert first.secret_access_key != second.secret_access_key
    assert first.secret_access_key not in repr(first)


def test_nobody_fills_the_memory_with_a_body(server):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(MAX_BODY_BYTES + 1))
    connection.endheaders()
    assert json.loads(connection.getresponse().read())["__type"] == "RequestEntityTooLargeException"
