"""The server that the other tests lean on: each fault happens as planned, on real sockets."""

import hashlib
import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import boto3
import obstore
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from local_s3 import Faults, local_s3
from obstore.store import S3Store

CONTENT = bytes(range(256)) * 200


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bins").mkdir()
    for number in range(200):
        (folder / "bins" / f"{number:03}.bin").write_bytes(CONTENT)
    with local_s3(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def a_fresh_plan(server):
    server.set_faults(Faults())
    server.set_latency_ms(0)
    server.reset_requests()


def boto3_client(server, secret_key=None):
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key or server.secret_key,
        region_name=server.region,
        config=Config(retries={"total_max_attempts": 1}),
    )


def obstore_store(server, max_retries=0):
    return S3Store(
        "bins",
        endpoint=server.url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region=server.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": max_retries},
    )


def plain_get(server, key="000.bin"):
    """One signed GET without a client's retries and checks: what the wire brings."""
    request = AWSRequest("GET", f"{server.url}/bins/{key}")
    S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", server.region).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    connection.request("GET", f"/bins/{key}", headers=dict(request.headers))
    return connection.getresponse()


def test_objects_come_and_go_unchanged_and_are_counted(server):
    client = boto3_client(server)
    client.put_object(Bucket="bins", Key="new/one.bin", Body=CONTENT)
    assert (server.folder / "bins/new/one.bin").read_bytes() == CONTENT
    assert client.head_object(Bucket="bins", Key="new/one.bin")["ContentLength"] == len(CONTENT)
    assert client.get_object(Bucket="bins", Key="new/one.bin")["Body"].read() == CONTENT
    listed = client.list_objects_v2(Bucket="bins", Prefix="new/")["Contents"]
    assert [item["Key"] for item in listed] == ["new/one.bin"]
    client.delete_objects(Bucket="bins", Delete={"Objects": [{"Key": "new/one.bin"}]})
    assert not (server.folder / "bins/new/one.bin").exists()
    counters = server.requests()
    assert {name: counters[name] for name in ("PUT", "HEAD", "GET", "LIST", "POST")} == dict.fromkeys(
        ("PUT", "HEAD", "GET", "LIST", "POST"), 1
    )


def test_a_large_upload_in_parts_arrives_whole(server, tmp_path):
    content = CONTENT * 220  # 11 MB: more than one part, more than any buffer on the way
    (tmp_path / "large").write_bytes(content)
    boto3_client(server).upload_file(str(tmp_path / "large"), "bins", "large.bin")
    received = bytes(obstore.get(obstore_store(server), "large.bin").bytes())
    obstore.delete(obstore_store(server), "large.bin")
    assert hashlib.sha256(received).digest() == hashlib.sha256(content).digest()


def test_a_chunked_upload_arrives_whole(server):
    parts = [CONTENT[:1], CONTENT[1:9000], CONTENT[9000:]]
    request = AWSRequest("PUT", f"{server.url}/bins/chunked.bin", headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", server.region).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    headers = dict(request.headers) | {"Transfer-Encoding": "chunked"}
    connection.request("PUT", "/bins/chunked.bin", body=iter(parts), headers=headers, encode_chunked=True)
    response = connection.getresponse()
    told = response.read()
    # rclone refuses a body of unknown length, as S3 does; it can only say so after the whole of it was passed on
    assert (response.status, b"MissingContentLength" in told) == (411, True)
    connection.request("GET", "/bins/000.bin", headers=dict(signed_headers(server, "000.bin")))
    assert connection.getresponse().read() == CONTENT


def signed_headers(server, key):
    request = AWSRequest("GET", f"{server.url}/bins/{key}")
    S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", server.region).add_auth(request)
    return request.headers


def test_a_wrong_secret_is_refused(server):
    with pytest.raises(ClientError) as error:
        boto3_client(server, secret_key="wrong").get_object(Bucket="bins", Key="000.bin")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_slow_down_is_the_error_that_s3_sends(server):
    server.set_faults(Faults(slow_down=1.0))
    client = boto3_client(server)
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket="bins", Key="000.bin")
    assert error.value.response["Error"]["Code"] == "SlowDown"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert client.head_object(Bucket="bins", Key="000.bin")["ContentLength"] == len(CONTENT)
    assert server.requests()["slow_down"] == 1


def test_reset_breaks_the_connection_within_the_body(server):
    server.set_faults(Faults(reset=1.0))
    response = plain_get(server)
    assert int(response.headers["Content-Length"]) == len(CONTENT)
    with pytest.raises(ConnectionResetError):
        response.read()
    assert server.requests()["reset"] == 1


def test_truncate_ends_the_body_before_its_length(server):
    server.set_faults(Faults(truncate=1.0))
    response = plain_get(server)
    with pytest.raises(http.client.IncompleteRead) as error:
        response.read()
    assert error.value.partial == CONTENT[: len(CONTENT) // 2]
    assert server.requests()["truncate"] == 1


def test_shorten_is_a_whole_response_with_half_an_object(server):
    server.set_faults(Faults(shorten=1.0))
    response = plain_get(server)
    assert response.read() == CONTENT[: len(CONTENT) // 2]
    assert bytes(obstore.get(obstore_store(server), "001.bin").bytes()) == CONTENT[: len(CONTENT) // 2]
    assert server.requests()["shorten"] == 2


def test_the_connection_serves_on_after_a_fault_that_leaves_it_open(server):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    for faults, status, body in (
        (Faults(slow_down=1.0), 503, None),
        (Faults(shorten=1.0), 200, CONTENT[: len(CONTENT) // 2]),
        (Faults(), 200, CONTENT),
    ):
        server.set_faults(faults)
        connection.request("GET", "/bins/002.bin", headers=dict(signed_headers(server, "002.bin")))
        response = connection.getresponse()
        received = response.read()
        assert response.status == status
        assert body is None or received == body
    assert server.requests()["connections"] == 1


def faults_met(server, faults, num_threads):
    server.set_faults(faults)

    def outcome(number):
        try:
            response = plain_get(server, f"{number:03}.bin")
            return response.status, len(response.read())
        except (http.client.IncompleteRead, ConnectionResetError) as error:
            return type(error).__name__

    with ThreadPoolExecutor(num_threads) as threads:
        return list(threads.map(outcome, range(200)))


def test_the_plan_is_a_function_of_seed_and_path_whatever_the_order(server):
    faults = Faults(slow_down=0.2, reset=0.1, truncate=0.1, seed=3)
    in_turn = faults_met(server, faults, num_threads=1)
    counters = server.requests()
    assert faults_met(server, faults, num_threads=8) == in_turn
    assert faults_met(server, Faults(slow_down=0.2, reset=0.1, truncate=0.1, seed=4), num_threads=1) != in_turn
    # 200 draws: within four standard deviations of 40, 20 and 20
    assert 40 - 23 < counters["slow_down"] < 40 + 23
    assert 20 - 17 < counters["reset"] < 20 + 17
    assert 20 - 17 < counters["truncate"] < 20 + 17
    assert sum(met[0] == 503 for met in in_turn) == counters["slow_down"]
    assert in_turn.count("ConnectionResetError") == counters["reset"]
    assert in_turn.count("IncompleteRead") == counters["truncate"]
    assert in_turn.count((200, len(CONTENT))) == 200 - sum(
        counters[name] for name in ("slow_down", "reset", "truncate")
    )


def test_the_next_try_of_a_path_draws_again(server):
    faults = Faults(slow_down=0.5, seed=1)
    server.set_faults(faults)
    outcomes = [plain_get(server, "003.bin").status for _ in range(20)]
    assert outcomes == [503 if faults.draw("/bins/003.bin", attempt) else 200 for attempt in range(1, 21)]
    assert len(set(outcomes)) == 2


def test_every_request_waits_and_many_wait_together(server):
    store = obstore_store(server)
    obstore.get(store, "000.bin").bytes()
    server.set_latency_ms(700)  # far more than one GET takes, also on a machine that is busy with other tests
    start = time.monotonic()
    with ThreadPoolExecutor(16) as threads:
        sizes = list(threads.map(lambda number: len(obstore.get(store, f"{number:03}.bin").bytes()), range(16)))
    waited_s = time.monotonic() - start
    assert sizes == [len(CONTENT)] * 16
    assert 0.7 <= waited_s < 16 * 0.7


def ports_of(running):
    ports = [urlsplit(url).port for url in (running.url, running.direct_url)]
    for port in ports:
        socket.create_connection(("127.0.0.1", port)).close()
    return ports


def assert_nothing_listens(ports):
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_both_processes_end_with_the_block(tmp_path):
    with local_s3(tmp_path) as running:
        ports = ports_of(running)
    assert_nothing_listens(ports)


def test_both_processes_end_at_sigterm(tmp_path):
    with local_s3(tmp_path) as running:
        ports = ports_of(running)
        running.process.terminate()
        assert running.process.wait(timeout=20) == 0
        assert_nothing_listens(ports)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), local_s3(tmp_path / "nowhere"):
        pass
