"""model.tar.gz: the same bytes of the same files, and what SageMaker unpacks of them."""

import gzip
import hashlib
import io
import tarfile
import time

from stocktake.cloud.model_archive import ModelArchive

FILES = {"model.onnx": b"graph" * 100, "model.json": b"{}", "code/inference.py": b"pass\n"}


def test_equal_files_give_equal_bytes_whatever_their_order_and_the_time(monkeypatch):
    first = ModelArchive.of(FILES)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert ModelArchive.of(dict(reversed(FILES.items()))) == first
    assert ModelArchive.of(FILES | {"model.json": b"{ }"}).sha256 != first.sha256


def test_it_unpacks_to_the_files_with_nobodys_name(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(ModelArchive.of(FILES).content)) as archive:
        assert {(entry.uid, entry.uname, entry.mtime, entry.mode) for entry in archive} == {(0, "", 0, 0o644)}
        archive.extractall(tmp_path, filter="data")
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.*")} == FILES


def test_its_digest_is_of_the_tar_which_no_zlib_packs_otherwise():
    archive = ModelArchive.of(FILES)
    assert archive.sha256 == hashlib.sha256(gzip.decompress(archive.content)).hexdigest()
