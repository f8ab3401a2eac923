"""What a batch job is to count: a dataset root's split, or a folder's images; the manifest in SageMaker's format."""

import json

import pytest

from stocktake.data.batch_input import BatchInput, BatchInputError
from stocktake.data.manifest import Manifest, ManifestError
from stocktake.data.sources.source import ListError
from stocktake.storage import Folder

COUNTS = [1, 2, 3, 4, 5]


def read(folder, split=None, counts=COUNTS) -> BatchInput:
    """Looks at a local folder that stands in for s3://bins/shelf/."""
    return BatchInput.read("s3://bins/shelf", split, counts, lambda url: {"s3://bins/shelf": Folder(str(folder))}[url])


def put(folder, **files: bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def test_a_split_of_a_root_is_named_by_a_manifest(synthetic_root):
    rows = Manifest.read(Folder(str(synthetic_root))).rows("test").to_pylist()
    found = read(synthetic_root)
    assert found.is_manifest
    assert found.rows is not None
    assert found.rows.to_pylist() == rows
    first, *names = json.loads(found.manifest())
    assert first == {"prefix": "s3://bins/shelf/"}
    assert names == [row["key"] for row in rows]
    assert found.image_ids == [row["image_id"] for row in rows]
    assert read(synthetic_root, "valid").digest != found.digest == read(synthetic_root, "test").digest


def test_a_folder_of_images_alone_is_taken_as_it_is(tmp_path):
    put(tmp_path, a_jpg=b"1", b__c_PNG=b"2")
    found = read(tmp_path)
    assert (found.url, found.is_manifest, found.rows) == ("s3://bins/shelf/", False, None)
    assert dict(zip(found.image_ids, found.keys, strict=True)) == {"a": "a.jpg", "b-c": "b/c.PNG"}


def test_what_is_no_image_is_left_out_by_a_manifest(tmp_path):
    put(tmp_path, a_jpg=b"1", notes_txt=b"of no interest")
    found = read(tmp_path)
    assert found.is_manifest
    assert json.loads(found.manifest()) == [{"prefix": "s3://bins/shelf/"}, "a.jpg"]


def test_another_image_and_another_content_are_another_input(tmp_path):
    put(tmp_path, a_jpg=b"1")
    digests = [read(tmp_path).digest, read(tmp_path).digest]
    put(tmp_path, b_jpg=b"1")
    digests.append(read(tmp_path).digest)
    put(tmp_path, a_jpg=b"22")
    digests.append(read(tmp_path).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_what_cannot_be_counted_is_told(tmp_path, synthetic_root):
    with pytest.raises(BatchInputError, match="holds no image"):
        read(tmp_path)
    put(tmp_path, a_jpg=b"1")
    with pytest.raises(BatchInputError, match=r"split=test is of a dataset root.*holds no manifest\.parquet"):
        read(tmp_path, "test")
    put(tmp_path, a_png=b"1")
    with pytest.raises(ListError, match="rename one"):
        read(tmp_path)
    with pytest.raises(ManifestError, match="the model knows"):
        read(synthetic_root, counts=[1, 2])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("data/bins", "Type aws s3 sync data/bins s3://<bucket>/<folder>, and then input=s3://"),
        ("file:///data/bins", "Type aws s3 sync /data/bins s3://"),
        ("gs://my-bucket/bins", "is not in S3, where SageMaker reads. Type input=s3://"),
    ],
)
def test_what_is_not_in_s3_is_refused_with_what_to_type(url, told):
    with pytest.raises(BatchInputError) as refused:
        BatchInput.unread(url, None)
    assert told in str(refused.value)
