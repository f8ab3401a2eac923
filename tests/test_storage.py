"""One interface to a folder on the disk and to a bucket of a real S3 server."""

import errno
import pickle

import obstore
import pytest
from local_s3 import Faults, local_s3
from obstore.exceptions import GenericError

from stocktake.storage import Folder, StorageError, StorageOptions, join_url, local_path, open_store, split_url


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with local_s3(folder) as running:
        yield running


@pytest.fixture
def in_bucket(server, monkeypatch) -> Folder:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    server.set_faults(Faults())
    return Folder("s3://bucket/some/prefix", StorageOptions(max_retries=3, retry_timeout_s=10))


@pytest.fixture(params=["file", "s3"])
def folder(request, tmp_path) -> Folder:
    return request.getfixturevalue("in_bucket") if request.param == "s3" else Folder(str(tmp_path / "folder"))


def test_what_is_written_is_read(folder):
    content = bytes(range(256)) * 300
    folder.write("a/b/one.bin", content)
    folder.write("a/b/one.bin", content + b"!")
    assert folder.read("a/b/one.bin") == content + b"!"
    assert folder.exists("a/b/one.bin")
    assert not folder.exists("a/b/other.bin")


def test_sizes_are_those_below_the_prefix(folder):
    for i in range(3):
        folder.write(f"sized/{i}.bin", b"x" * i)
    folder.write("sizedmore/9.bin", b"x")
    assert sorted(folder.sizes("sized")) == [("sized/0.bin", 0), ("sized/1.bin", 1), ("sized/2.bin", 2)]
    assert ("sizedmore/9.bin", 1) in list(folder.sizes())


def test_what_is_not_there_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"nothing/here\.jpg does not exist") as caught:
        folder.read("nothing/here.jpg")
    assert folder.url in str(caught.value)


def test_a_folder_goes_to_another_process_without_its_connections(folder):
    folder.write("key", b"content")
    copy = pickle.loads(pickle.dumps(folder))
    assert copy._store is None
    assert copy.read("key") == b"content"


def test_files_lie_where_the_path_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Folder("data/bins").write("x.txt", b"1")
    Folder(f"file://{tmp_path}/data/bins").write("y.txt", b"2")
    assert (tmp_path / "data/bins/x.txt").read_bytes() == b"1"
    assert (tmp_path / "data/bins/y.txt").read_bytes() == b"2"
    monkeypatch.chdir("/")
    assert local_path(f"file://{tmp_path}/data") == tmp_path / "data"


def test_a_wrong_secret_names_the_bucket_and_the_cure(in_bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    folder = Folder("s3://bucket/some/prefix", in_bucket.options)
    for attempt in (
        lambda: folder.read("key"),
        lambda: folder.write("key", b""),
        lambda: folder.exists("key"),
        lambda: list(folder.sizes()),
    ):
        with pytest.raises(StorageError, match="s3://bucket/some/prefix") as caught:
            attempt()
        assert "storage.profile" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(in_bucket):
    with pytest.raises(OSError, match="s3://no-such-bucket"):
        Folder("s3://no-such-bucket", in_bucket.options).read("key")


def test_a_busy_server_is_asked_again(in_bucket, server):
    in_bucket.write("key", b"content")
    server.reset_requests()
    server.set_faults(Faults(slow_down=0.5, seed=1))
    for _ in range(5):
        assert in_bucket.read("key") == b"content"
    assert server.requests()["slow_down"] >= 1


def test_a_server_that_stays_busy_is_given_up_with_the_budget_named(in_bucket, server):
    in_bucket.write("key", b"content")
    server.set_faults(Faults(slow_down=1.0))
    folder = Folder(in_bucket.url, StorageOptions(max_retries=1, retry_timeout_s=3))
    with pytest.raises(StorageError, match=r"up to 3 s .*at most 2 times \(storage.max_retries\)"):
        folder.read("key")


def test_an_endpoint_can_be_an_option(server, in_bucket, monkeypatch):
    in_bucket.write("key", b"content")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert Folder(in_bucket.url, StorageOptions(endpoint=server.url)).read("key") == b"content"


def test_without_credentials_the_message_says_what_to_type(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match=r"s3://private-bucket.*storage\.anonymous=true"):
        open_store("s3://private-bucket/data")
    with pytest.raises(StorageError, match="profile=nobody"):
        open_store("s3://private-bucket/data", StorageOptions(profile="nobody"))
    open_store("s3://aft-vbi-pds")  # known to be public


def test_a_place_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'ftp://host/x' is no location"):
        Folder("ftp://host/x").read("y")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket/a/b.pt", ("s3://bucket/a", "b.pt")),
        ("/a/b.pt", ("/a", "b.pt")),
        ("/b.pt", ("/", "b.pt")),
        ("b.pt", (".", "b.pt")),
    ],
)
def test_an_objects_url_is_a_folder_and_a_name(url, parts):
    assert split_url(url) == parts


def test_urls_are_joined_with_one_slash():
    assert join_url("s3://bucket/a/", "b", "c.jpg") == "s3://bucket/a/b/c.jpg"


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for url in (tmp_path / "file", tmp_path / "file" / "below"):
        folder = Folder(str(url))
        for attempt in (folder.create, lambda folder=folder: folder.write("key", b"")):
            with pytest.raises(NotADirectoryError, match=f"cannot be a folder, because {tmp_path}/file is a file"):
                attempt()
    with pytest.raises(NotADirectoryError, match="file is a file, not a folder"):
        Folder(str(tmp_path / "file")).read("key")


@pytest.mark.parametrize("below", ["", "below"])
def test_what_is_neither_file_nor_folder_is_named_in_the_place_of_the_folder(tmp_path, below):
    """A link to a disk that is not mounted ended in StopIteration."""
    (tmp_path / "data").symlink_to(tmp_path / "not mounted")
    for place, kind in ((tmp_path / "data", "a link that leads nowhere"), ("/dev/null", "no folder")):
        for attempt in (Folder.create, lambda folder: folder.write("key", b"")):
            with pytest.raises(NotADirectoryError, match=f"cannot be a folder, because {place} is {kind}"):
                attempt(Folder(f"{place}/{below}"))


def test_a_full_disk_is_no_matter_of_permissions(tmp_path):
    """/dev/full answers each write with the error of a full disk."""
    try:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            pytest.skip("no /dev/full here")
        explained = Folder(str(tmp_path)).explained(
            GenericError(f"Generic LocalFileSystem error: {error}"), "write key"
        )
    assert "the disk is full: make room" in str(explained)
    assert "permissions" not in str(explained)


def test_a_name_with_spaces_is_named_whole(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a folder/no picture\.jpg does not exist"):
        Folder(str(tmp_path / "a folder")).read("no picture.jpg")


@pytest.mark.parametrize("key", ["a\nb.jpg", "a\tb", "a\x00b", "a//b", "../b", "a/./b", "\udc80", ""])
def test_a_name_that_no_object_has_is_refused_in_words(folder, key):
    """obstore has a ValueError of two lines for it, or says that nothing was given to it at all."""
    folder.write("there", b"")
    for attempt in (
        lambda: folder.read(key),
        lambda: folder.write(key, b""),
        lambda: folder.size(key),
        lambda: folder.remove(key),
        lambda: folder.copy("there", key or "\n"),
        lambda: list(folder.sizes(key or "\n")),
    ):
        with pytest.raises(StorageError, match="no object is called so") as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda folder: (folder / "new\nline.jpg").touch(), "rename that file"),
        (lambda folder: open(bytes(folder / "not") + b"\xff", "w").close(), "rename that file"),
        (lambda folder: (folder / "loop").symlink_to(folder), "remove that link"),
    ],
    ids=["newline", "no UTF-8", "loop"],
)
def test_what_cannot_be_listed_is_no_matter_of_permissions(tmp_path, make, cure):
    make(tmp_path)
    with pytest.raises(StorageError, match=cure):
        list(Folder(str(tmp_path)).sizes())


def test_a_listing_goes_on_where_the_credentials_expired(in_bucket, monkeypatch):
    """Its second page is refused once; then it is asked for again, and nothing comes twice or is left out."""
    keys = [f"many/{number:03}" for number in range(120)]
    for key in keys:
        in_bucket.write(key, b"x")
    original, opened = obstore.list, []

    def listed(store, prefix, offset):
        opened.append(offset)
        for page, part in enumerate(original(store, prefix, offset=offset)):
            if page == 1 and len(opened) == 1:
                raise GenericError("<Code>ExpiredToken</Code>")
            yield part

    monkeypatch.setattr("obstore.list", listed)
    assert sorted(key for key, _ in in_bucket.sizes("many")) == keys
    assert len(opened) == 2 and opened[0] is None and opened[1].startswith("many/")
    opened.clear()
    monkeypatch.setattr("stocktake.storage.are_expired", lambda _error: False)
    with pytest.raises(StorageError, match=r"Could not list many .*ExpiredToken"):
        list(in_bucket.sizes("many"))
