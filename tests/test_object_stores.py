"""Stores that are neither a disk nor S3, over real sockets; what S3 and a disk do is in test_storage.py."""

import pickle
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

from stocktake.object_stores import local_path, open_store
from stocktake.storage import Folder, StorageError, StorageOptions

FILES = {"photos/a bin.png": b"picture", "photos/list.csv": b"path,count"}


class Objects(BaseHTTPRequestHandler):
    """Gives objects as the web, Google's XML API and Azure's blobs do: one GET for each, by its path."""

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        content = FILES.get(path.removeprefix("bins/"))
        self.send_response(404 if content is None else 200)
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    do_HEAD = do_GET

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Objects) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_web_is_read_and_nothing_else(server):
    folder = pickle.loads(pickle.dumps(Folder(f"{server}/photos", StorageOptions(max_retries=0, retry_timeout_s=2))))
    assert folder.read("a bin.png") == b"picture"
    assert folder.size("a bin.png") == 7
    assert not folder.exists("other.png")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{server}/photos/other.png does not exist")):
        folder.read("other.png")
    for attempt in (folder.create, lambda: folder.write("x", b""), lambda: folder.remove("a bin.png")):
        with pytest.raises(StorageError, match="is on the web and cannot be written to"):
            attempt()
    with pytest.raises(StorageError, match="on the web and cannot be listed"):
        list(folder.objects())


@pytest.mark.parametrize("url", ["gs://bins/photos", "az://bins/photos"])
def test_google_and_azure_are_reached_by_their_own_requests(server, url, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    folder = Folder(url, StorageOptions(anonymous=True, endpoint=server, max_retries=0, retry_timeout_s=2))
    assert folder.read("a bin.png") == b"picture"
    with pytest.raises(FileNotFoundError, match=f"{url}/other.png does not exist"):
        folder.read("other.png")


@pytest.mark.parametrize(
    ("url", "hint"),
    [("gs://bins", "GOOGLE_APPLICATION_CREDENTIALS"), ("az://bins", "AZURE_STORAGE_ACCOUNT_NAME")],
)
def test_a_cloud_that_does_not_answer_is_told_with_what_it_needs(url, hint, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    folder = Folder(
        url, StorageOptions(anonymous=True, endpoint="http://127.0.0.1:9", max_retries=0, retry_timeout_s=2)
    )
    with pytest.raises(
        StorageError,
        match=rf"Could not read x in {url}: .*Hint: check the network first .*{hint}.*storage\.max_retries",
    ):
        folder.read("x")


def test_azure_without_an_account_says_which_is_missing(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ValueError, match=r"az://bins cannot be opened: .*ccount.*AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://bins")


def test_memory_is_one_for_all_folders_of_a_url():
    folder = Folder("memory://one")
    folder.write("a/b", b"content")
    assert Folder("memory://one").read("a/b") == b"content"
    assert [facts["path"] for facts in folder.objects("a")] == ["a/b"]
    assert not Folder("memory://other").exists("a/b")


def test_a_url_is_not_taken_for_a_path_of_this_machine():
    """gs://bins became the folder gs:/bins below the one where the command was typed."""
    with pytest.raises(ValueError, match="gs://bins/x is not on this machine"):
        local_path("gs://bins/x")
