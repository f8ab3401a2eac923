"""Which objects a request may name, and what is said of the others; S3 is a real server."""

import pytest

from stocktake.serving.errors import RejectedRequest
from stocktake.serving.s3_images import S3Images
from stocktake.storage import StorageOptions


def test_only_what_lies_under_an_allowed_prefix_is_read(s3, tmp_path):
    folder = tmp_path / "buckets" / "bins"
    for name, content in {"open/a.png": b"image", "open/large.png": bytes(101), "open-not/a.png": b"no"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    s3_images = S3Images(["s3://bins/open/"], StorageOptions(max_retries=0, request_timeout_s=5), max_bytes=100)
    assert s3_images.read("s3://bins/open/a.png") == b"image"
    for url, status in {
        "s3://bins/open/b.png": 404,
        "s3://bins/open/large.png": 413,
        "s3://bins/open-not/a.png": 403,
        "s3://bins/open/../open-not/a.png": 403,
        "s3://bins/open/": 403,
        "s3://bins/open/a\nb.png": 404,
        "s3://bins/open/\ud800": 404,
        "s3://elsewhere/open/a.png": 403,
        "file:///etc/passwd": 403,
        "": 403,
    }.items():
        with pytest.raises(RejectedRequest) as rejected:
            s3_images.read(url)
        assert rejected.value.status == status, url
    s3.process.terminate()
    s3.process.wait()
    with pytest.raises(RejectedRequest) as rejected:
        s3_images.read("s3://bins/open/a.png")
    assert rejected.value.status == 424
    assert s3.url not in rejected.value.error + rejected.value.hint


@pytest.mark.parametrize("prefix", ["s3://bins/open", "s3:///", "bins/", "s3://bins", "file:///bins/"])
def test_a_prefix_that_would_open_more_than_it_says_is_refused(prefix):
    with pytest.raises(ValueError, match="needs the form s3://bucket/"):
        S3Images([prefix], StorageOptions(), 1)
