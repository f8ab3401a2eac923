"""What a batch job answered, read from S3, checked, and put beside the ids of its images."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow

from stocktake.data.batch_input import BatchInput
from stocktake.data.parquet import write_table
from stocktake.inference.endpoint_backend import EndpointError, probabilities_in
from stocktake.metrics.calibration import mismatch_score
from stocktake.storage import Folder, StorageError

NUM_REQUESTS = 32  # answers that are read at once
# What a dataset's manifest has of a bin, and an evaluation's predictions.parquet too.
FROM_MANIFEST = ("split", "group", "count", "num_products")


@dataclass(frozen=True)
class BatchAnswers:
    """What is there of N images, in their order.

    Attributes:
        source: The images.
        counts: The K counts that the model tells apart.
        probabilities: P(count) of each image; or why there is none, in words.
    """

    source: BatchInput
    counts: Sequence[int]
    probabilities: Sequence[Sequence[float] | str]

    @classmethod
    def read(cls, folder: Folder, source: BatchInput, counts: Sequence[int], version: str) -> "BatchAnswers":
        """Reads the answers of a job.

        Args:
            folder: That the job wrote into; the answer to `<key>` is `<key>.out`.
            counts: That the model tells apart.
            version: Of the model that was to answer.
        """

        def answer(key: str) -> Sequence[float] | str:
            try:
                return _checked(folder.read(f"{key}.out"), counts, version)
            except FileNotFoundError:
                return "there is no answer"
            except (EndpointError, StorageError) as error:
                return str(error)

        with ThreadPoolExecutor(NUM_REQUESTS, "answers") as threads:
            return cls(source, counts, [*threads.map(answer, source.keys)])

    @property
    def missing(self) -> list[dict[str, str]]:
        """Each image without an answer, and why."""
        images = zip(self.source.image_ids, self.source.keys, self.probabilities, strict=True)
        return [
            {"image_id": image_id, "key": key, "reason": answer}
            for image_id, key, answer in images
            if isinstance(answer, str)
        ]

    def predictions(self) -> bytes:
        """Returns predictions.parquet, of the images that have an answer, in the order of their ids.

        Columns as evaluate.py writes them, where there are such: `count` and what is of the bin come from the dataset's
        manifest, and `mismatch_score` from both. The probabilities are the server's: tempered.
        """
        there = [row for row, answer in enumerate(self.probabilities) if not isinstance(answer, str)]
        counts_K = numpy.array(self.counts)
        probabilities_NK = numpy.array([self.probabilities[row] for row in there]).reshape(-1, len(counts_K))
        columns = {"image_id": pyarrow.array([self.source.image_ids[row] for row in there], pyarrow.string())}
        rows = None if self.source.rows is None else self.source.rows.take(pyarrow.array(there, pyarrow.int64()))
        if rows is not None:
            columns |= {name: rows[name] for name in FROM_MANIFEST}
        columns["predicted"] = pyarrow.array(counts_K[probabilities_NK.argmax(1)], pyarrow.int32())
        columns["probabilities"] = pyarrow.array(probabilities_NK.tolist(), pyarrow.list_(pyarrow.float64()))
        if rows is not None:
            labels_N = numpy.searchsorted(counts_K, rows["count"].to_numpy())
            columns["mismatch_score"] = pyarrow.array(mismatch_score(probabilities_NK, labels_N))
        file = pyarrow.BufferOutputStream()
        write_table(pyarrow.table(columns).sort_by("image_id"), file)
        return file.getvalue().to_pybytes()


def _checked(content: bytes, counts: Sequence[int], version: str) -> list[float]:
    """Returns P(count) in the order of the counts.

    Raises:
        EndpointError: The answer is none of this model's.
    """
    response: Any = content
    with suppress(ValueError, RecursionError):  # what is no JSON is told as it stands
        response = json.loads(content)
    by_count = probabilities_in(response, "the job")
    if sorted(by_count) != sorted(counts) or response.get("model_version") != version:
        raise EndpointError(
            f"the job answers by model {response.get('model_version')!r} with counts {sorted(by_count)}, and not by "
            f"{version!r} with {sorted(counts)}"
        )
    return [by_count[count] for count in counts]
