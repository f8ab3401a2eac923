"""How a bucket is reached: names that are no web addresses, the AWS configuration, credentials that expire."""

import datetime
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from local_s3 import local_s3

from stocktake.inference.image_reader import ImageReader
from stocktake.s3 import Credentials, let_fsspec_use_obstore, split_bucket
from stocktake.storage import Folder, StorageError, StorageOptions

KEYS = ["v#1", "shelf A #3", "50% off?", "a?b=c#d", "ü é", "[1]"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with local_s3(folder) as running:
        yield running


@pytest.fixture
def environment(server, monkeypatch):
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """Nothing of AWS in the environment, and a configuration that a test may write."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/sets/v#1/", ("bucket", "sets/v#1")),
        ("s3://bucket/what?/x%20y.jpg", ("bucket", "what?/x%20y.jpg")),
    ],
)
def test_the_name_of_an_object_is_no_web_address(url, parts):
    assert split_bucket(url) == parts


def test_a_url_without_a_bucket_is_refused():
    with pytest.raises(ValueError, match="'s3:///x' names no bucket"):
        split_bucket("s3:///x")


@pytest.mark.parametrize("name", KEYS)
def test_what_boto3_wrote_under_a_name_is_what_is_read(server, environment, name):
    """The oracle is boto3, which takes keys as they are."""
    import boto3

    client = boto3.client("s3")
    client.put_object(Bucket="bucket", Key=f"sets/{name}/x.jpg", Body=name.encode())
    client.put_object(Bucket="bucket", Key=f"sets/{name.partition('#')[0].partition('?')[0]}x.jpg", Body=b"another")
    folder = Folder(f"s3://bucket/sets/{name}")
    assert folder.read("x.jpg") == name.encode()
    assert list(folder.sizes()) == [("x.jpg", len(name.encode()))]
    folder.write("y.jpg", b"written")
    assert client.get_object(Bucket="bucket", Key=f"sets/{name}/y.jpg")["Body"].read() == b"written"
    reader = ImageReader(StorageOptions(), max_bytes=100, timeout_s=5)
    assert reader.expand(f"s3://bucket/sets/{name}") == [f"s3://bucket/sets/{name}/{key}.jpg" for key in "xy"]
    assert reader.read(f"s3://bucket/sets/{name}/x.jpg") == name.encode()


def test_checkpoints_are_written_where_the_folder_says(server, environment):
    import fsspec

    url = "s3://bucket/runs/a#1/checkpoints"
    let_fsspec_use_obstore(url, StorageOptions())
    with fsspec.open(f"{url}/best.ckpt", "wb") as file:
        file.write(b"weights")
    assert Folder(url).read("best.ckpt") == b"weights"


def test_the_endpoint_of_a_profile_is_used(server, no_aws, monkeypatch):
    keys = f"aws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    (no_aws / "config").write_text(
        f"[profile here]\nregion = us-east-1\nendpoint_url = {server.url}\n{keys}"
        f"[profile s3only]\nregion = us-east-1\nservices = own\nendpoint_url = http://127.0.0.1:9\n{keys}"
        f"[services own]\ns3 =\n  endpoint_url = {server.url}\n"
    )
    quick = {"max_retries": 0, "retry_timeout_s": 1.0}
    for profile in ("here", "s3only"):
        folder = Folder("s3://bucket/profiles", StorageOptions(profile=profile, **quick))
        folder.write(profile, b"x")
        assert folder.read(profile) == b"x"
    monkeypatch.setenv("AWS_PROFILE", "here")
    assert Folder("s3://bucket/profiles", StorageOptions(**quick)).read("here") == b"x"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError):  # the environment comes before the profile
        Folder("s3://bucket/profiles", StorageOptions(**quick)).read("here")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)  # and the service's own before that of all services
    assert Folder("s3://bucket/profiles", StorageOptions(**quick)).read("here") == b"x"


def test_a_companys_own_certificate_is_trusted(no_aws, monkeypatch):
    import ssl

    key, certificate = no_aws / "key.pem", no_aws / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    request += [
        "-days",
        "1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    try:
        subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl on the PATH")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(lambda _handler: (200, b"content"), context) as port:
        options = StorageOptions(endpoint=f"https://127.0.0.1:{port}", max_retries=0, retry_timeout_s=2)
        with pytest.raises(StorageError, match=r"not trusted; name .* AWS_CA_BUNDLE=<file>\.pem"):
            Folder("s3://bucket", options).read("x")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        assert Folder("s3://bucket", options).read("x") == b"content"
        monkeypatch.delenv("AWS_CA_BUNDLE")
        (no_aws / "config").write_text(f"[profile company]\nca_bundle = {certificate}\n")
        with_profile = StorageOptions(**{**vars(options), "profile": "company", "anonymous": True})
        assert Folder("s3://bucket", with_profile).read("x") == b"content"
        monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such.pem")
        with pytest.raises(StorageError, match=r"certificates in /no/such\.pem.*AWS_CA_BUNDLE"):
            Folder("s3://bucket", options).read("x")


class serving:
    """A small HTTP server: `answer(handler)` gives status and body."""

    def __init__(self, answer, context=None):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                status, body = answer(self)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"e"')
                self.send_header("Last-Modified", "Wed, 12 Oct 2022 17:50:00 GMT")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def do_PUT(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.do_GET()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    def __enter__(self) -> int:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.server_address[1]

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


class Clockwork:
    """A role whose credentials live so many seconds, and a bucket that refuses those that are over."""

    def __init__(self, lifetime_s: float):
        self.lifetime_s, self.given, self.num_refused = lifetime_s, {}, 0

    def answer(self, handler) -> tuple[int, bytes]:
        now = datetime.datetime.now(datetime.UTC)
        if handler.path == "/role":
            name = f"KEY{len(self.given)}"
            self.given[name] = now + datetime.timedelta(seconds=self.lifetime_s)
            told = {"AccessKeyId": name, "SecretAccessKey": "secret", "Token": name}
            return 200, json.dumps(told | {"Expiration": self.given[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ")}).encode()
        name = handler.headers["x-amz-security-token"]
        if self.given[name] <= now:
            self.num_refused += 1
            return 403, EXPIRED
        return 200, urllib.parse.unquote(handler.path).encode()


def test_a_roles_credentials_are_renewed_before_they_expire(no_aws, monkeypatch):
    """obstore was told of thirty minutes, whatever was left, and went on with the old ones: 403 ExpiredToken."""
    clock = Clockwork(lifetime_s=0.5)
    with serving(clock.answer) as port:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/role")
        folder = Folder("s3://bucket", StorageOptions(endpoint=f"http://127.0.0.1:{port}", max_retries=0))
        end = datetime.datetime.now() + datetime.timedelta(seconds=1.2)
        while datetime.datetime.now() < end:
            assert folder.read("x") == b"/bucket/x"
    assert len(clock.given) >= 3


def test_what_is_reported_is_what_is_left():
    from botocore.credentials import RefreshableCredentials

    now = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
    clock = [now]

    def renewed():
        expiry = (clock[0] + datetime.timedelta(hours=1)).isoformat()
        return {"access_key": "new", "secret_key": "secret", "token": "token", "expiry_time": expiry}

    in_16_minutes = now + datetime.timedelta(minutes=16)
    credentials = RefreshableCredentials(
        "old", "secret", "token", in_16_minutes, renewed, "test", time_fetcher=lambda: clock[0]
    )
    given = Credentials(credentials)()
    assert (given["access_key_id"], given["expires_at"]) == ("old", in_16_minutes)
    clock[0] = in_16_minutes - datetime.timedelta(minutes=5)  # when obstore asks again
    given = Credentials(credentials)()
    assert (given["access_key_id"], given["expires_at"]) == ("new", clock[0] + datetime.timedelta(hours=1))


def test_an_expired_token_is_a_reason_to_ask_again(no_aws, monkeypatch):
    """Some program writes new keys into the credentials file, as single sign-on does; the old ones are refused."""
    file = no_aws / "credentials"
    keys = "[default]\naws_access_key_id = {0}\naws_secret_access_key = s\naws_session_token = {0}\n"
    file.write_text(keys.format("old"))
    valid = ["old"]

    def answer(handler):
        return (200, b"content") if handler.headers["x-amz-security-token"] in valid else (400, EXPIRED)

    with serving(answer) as port:
        folder = Folder("s3://bucket", StorageOptions(endpoint=f"http://127.0.0.1:{port}", max_retries=0))
        assert folder.read("x") == b"content"
        valid[:] = ["new"]
        with pytest.raises(StorageError, match="ExpiredToken"):
            folder.read("x")
        file.write_text(keys.format("new"))
        results = []
        threads = [threading.Thread(target=lambda: results.append(folder.read("x"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [b"content"] * 8
        folder.write("y", b"z")
        assert folder.size("x") == 7


@pytest.mark.parametrize(("given", "attempts"), [(None, 5), ("2", 2)])
def test_the_metadata_service_is_asked_more_than_once(no_aws, monkeypatch, given, attempts):
    """An instance's metadata service that is busy: 64 workers ask it at once."""
    asked = []

    def answer(handler):
        asked.append(handler.path)
        return 503, b""

    with serving(answer) as port:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}/")
        if given:
            monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", given)
        with pytest.raises(StorageError, match="No AWS credentials"):
            Folder("s3://bucket").read("x")
    assert asked.count("/latest/api/token") == attempts


def test_a_public_bucket_needs_nothing_of_boto3():
    code = "import sys; from stocktake.storage import open_store; open_store('s3://aft-vbi-pds')\n"
    code += "assert not {'boto3', 'botocore'} & sys.modules.keys()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
