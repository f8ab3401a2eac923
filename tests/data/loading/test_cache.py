"""The disk cache keeps the same images in every process, never more than its limit, and never half of one."""

import hashlib

import pyarrow
import pytest

from stocktake.data.loading.cache import DiskCache

IMAGES = [bytes([number]) * 400_000 for number in range(4)]
DIGESTS = [hashlib.sha256(image).hexdigest() for image in IMAGES]
TABLE = pyarrow.table({"sha256": [*DIGESTS, None], "bytes": [*map(len, IMAGES), None]})


def test_what_fits_is_kept_and_the_rest_is_not(tmp_path):
    cache = DiskCache(tmp_path, limit_mib=1.0, table=TABLE, name="manifest")
    for digest, image in zip(DIGESTS, IMAGES, strict=True):
        cache.write(digest, image)
    again = DiskCache(tmp_path, limit_mib=1.0, table=TABLE, name="manifest")
    assert [again.read(digest) for digest in DIGESTS] == [IMAGES[0], IMAGES[1], None, None]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 2**20


@pytest.mark.parametrize("damage", [lambda stored: b"", lambda stored: stored[:-1], lambda stored: b"?" + stored[1:]])
def test_what_was_damaged_on_the_disk_is_not_given_out(tmp_path, damage):
    cache = DiskCache(tmp_path, limit_mib=1.0, table=TABLE, name="manifest")
    cache.write(DIGESTS[0], IMAGES[0])
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(damage(path.read_bytes()))
    assert cache.holds(DIGESTS[0])
    assert cache.read(DIGESTS[0]) is None


def test_another_manifest_has_a_cache_of_its_own(tmp_path):
    DiskCache(tmp_path, 10, TABLE, "one").write(DIGESTS[0], IMAGES[0])
    assert DiskCache(tmp_path, 10, TABLE, "two").read(DIGESTS[0]) is None


def test_a_folder_that_takes_nothing_is_told_once_and_ends_no_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = DiskCache(tmp_path / "file", 10, TABLE, "one")
    with pytest.warns(UserWarning, match=r"data\.cache_dir.*takes no more images"):
        cache.write(DIGESTS[0], IMAGES[0])
    cache.write(DIGESTS[1], IMAGES[1])
    assert cache.kept == set()
