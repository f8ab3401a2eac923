"""What a batch job counts: a split of a dataset root in S3, or all images below an S3 folder.

Format of the manifest that names them: API reference of SageMaker's TransformS3DataSource.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow

from stocktake.data.manifest import MANIFEST_KEY, Manifest
from stocktake.data.sources.source import image_id_of, is_image_name, refuse_equal_ids
from stocktake.shell import override
from stocktake.storage import Folder, is_local, is_s3

DEFAULT_SPLIT = "test"


class BatchInputError(ValueError):
    """An input that no batch job can count; the message says what to type."""


@dataclass(frozen=True)
class BatchInput:
    """Images in S3.

    Attributes:
        url: The folder, with a slash at its end.
        keys: Of the images, from the folder; none where it was not looked at.
        image_ids: Of the images.
        digest: SHA-256 that tells the images from others, by what they hold.
        is_manifest: Whether a manifest has to name them, because other objects lie beside them.
        rows: The dataset's manifest has of them, if there is one.
    """

    url: str
    keys: Sequence[str]
    image_ids: Sequence[str]
    digest: str
    is_manifest: bool
    rows: pyarrow.Table | None = None

    @classmethod
    def unread(cls, url: str, split: str | None) -> "BatchInput":
        """Returns what needs no account: a folder that is taken for a dataset root where a split is named.

        Raises:
            BatchInputError: It is not in S3.
        """
        return cls(_folder_url(url), (), (), _digest(url, split), is_manifest=split is not None)

    @classmethod
    def read(
        cls, url: str, split: str | None, counts: Sequence[int], open_folder: Callable[[str], Folder]
    ) -> "BatchInput":
        """Looks at a folder.

        Args:
            url: Of the folder, in S3.
            split: Of a dataset root; `None` takes test.
            counts: That the model knows.
            open_folder: The way from an S3 URL to its folder.

        Raises:
            BatchInputError: It is not in S3, holds no image, or is no dataset root though a split is named.
            ManifestError: The root's manifest is none, or its split is empty or has other counts.
            ListError: Two images would have one id.
        """
        url = _folder_url(url)
        folder = open_folder(url.rstrip("/"))
        if folder.exists(MANIFEST_KEY):
            manifest = Manifest.read(folder)
            split = split or DEFAULT_SPLIT
            rows = manifest.rows(split, counts=list(counts))
            keys, image_ids = rows["key"].to_pylist(), rows["image_id"].to_pylist()
            return cls(url, keys, image_ids, _digest(url, split, manifest.sha256), is_manifest=True, rows=rows)
        if split is not None:
            raise BatchInputError(
                f"split={split} is of a dataset root, and {override('input', url)} holds no {MANIFEST_KEY}. Leave "
                "split out to have all images below it counted, or type the root that scripts/prepare.py wrote."
            )
        found = sorted((facts["path"], facts["size"], facts["e_tag"]) for facts in folder.objects())
        images = [one for one in found if is_image_name(one[0])]
        if not images:
            raise BatchInputError(f"{override('input', url)} holds no image. Type the S3 folder that they lie in.")
        path_of = refuse_equal_ids((image_id_of(path), path) for path, *_ in images)
        digest = _digest(url, *images)
        return cls(url, [*path_of.values()], [*path_of], digest, is_manifest=len(images) < len(found))

    def manifest(self) -> bytes:
        """Returns the manifest that names the images."""
        return json.dumps([{"prefix": self.url}, *self.keys]).encode()


def _folder_url(url: str) -> str:
    if not is_s3(url):
        instead = "input=s3://<bucket>/<folder>"
        if is_local(url):
            instead = f"aws s3 sync {url.removeprefix('file://')} s3://<bucket>/<folder>, and then {instead}"
        raise BatchInputError(f"{override('input', url)} is not in S3, where SageMaker reads. Type {instead}")
    return f"{url.rstrip('/')}/"


def _digest(*what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()
