"""A batch job's answers: each is checked and put beside its image; one that is missing or broken is named."""

import io
import json

import pyarrow.parquet
import pytest

from stocktake.data.batch_input import BatchInput
from stocktake.data.manifest import Manifest
from stocktake.inference.batch_answers import BatchAnswers
from stocktake.storage import Folder

COUNTS = [1, 2, 3]
ANSWER = {"count": 2, "probabilities": {"1": 0.25, "2": 0.5, "3": 0.25}, "model_version": "v1"}
BROKEN = {
    "cut off": (json.dumps(ANSWER)[:-9], "but not as scripts/serve.py does"),
    "empty": ("", "but not as scripts/serve.py does"),
    "an error": ('{"error": "no image"}', "but not as scripts/serve.py does"),
    "a sum of 2": (
        json.dumps(ANSWER | {"probabilities": {"1": 1, "2": 1, "3": 0}}),
        "but not as scripts/serve.py does",
    ),
    "another model": (json.dumps(ANSWER | {"model_version": "v2"}), "by model 'v2'"),
    "other counts": (json.dumps(ANSWER | {"probabilities": {"1": 0.5, "2": 0.5}}), "counts [1, 2], and not by 'v1'"),
}


def read(folder, **answers: str) -> BatchAnswers:
    for key, answer in answers.items():
        (folder / f"{key}.jpg.out").write_text(answer)
    source = BatchInput("s3://bins/", [f"{key}.jpg" for key in answers], list(answers), "0" * 64, is_manifest=False)
    return BatchAnswers.read(Folder(str(folder)), source, COUNTS, "v1")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_none(tmp_path, name):
    answer, told = BROKEN[name]
    (missing,) = read(tmp_path, good=json.dumps(ANSWER), bad=answer).missing
    assert (missing["image_id"], missing["key"]) == ("bad", "bad.jpg")
    assert told in missing["reason"]


def test_an_answer_that_is_not_there_is_named_and_the_others_are_kept(tmp_path):
    answers = read(tmp_path, a=json.dumps(ANSWER), b=json.dumps(ANSWER), c=json.dumps(ANSWER))
    assert answers.missing == []
    (tmp_path / "b.jpg.out").unlink()
    answers = BatchAnswers.read(Folder(str(tmp_path)), answers.source, COUNTS, "v1")
    assert answers.missing == [{"image_id": "b", "key": "b.jpg", "reason": "there is no answer"}]
    rows = pyarrow.parquet.read_table(io.BytesIO(answers.predictions())).to_pylist()
    assert rows == [{"image_id": name, "predicted": 2, "probabilities": [0.25, 0.5, 0.25]} for name in ("a", "c")]


def test_what_the_manifest_has_of_a_bin_stands_beside_its_answer(tmp_path, synthetic_root):
    rows = Manifest.read(Folder(str(synthetic_root))).rows("test").slice(0, 3)
    ids = rows["image_id"].to_pylist()
    source = BatchInput("s3://bins/", ids, ids, "0" * 64, is_manifest=True, rows=rows)
    counts = [1, 2, 3, 4, 5]
    for place, (image_id, count) in enumerate(zip(ids, rows["count"].to_pylist(), strict=True)):
        by_count = {one: 0.6 if one == count else 0.1 for one in counts}
        if place != 1:
            (tmp_path / f"{image_id}.out").write_text(json.dumps(ANSWER | {"probabilities": by_count}))
    answers = BatchAnswers.read(Folder(str(tmp_path)), source, counts, "v1")
    table = pyarrow.parquet.read_table(io.BytesIO(answers.predictions()))
    of_two = rows.take([0, 2])
    for name in ("image_id", "split", "group", "count", "num_products"):
        assert table[name].to_pylist() == of_two[name].to_pylist()
    assert table["predicted"].to_pylist() == of_two["count"].to_pylist()
    assert table["mismatch_score"].to_pylist() == pytest.approx([0.4, 0.4])
