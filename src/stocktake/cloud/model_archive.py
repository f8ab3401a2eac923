"""model.tar.gz of an exported model: the same files give the same bytes, whoever packs them, and when."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

ARCHIVE_NAME = "model.tar.gz"
# CreateModel's documentation has no limit for instances; a serverless endpoint's disk is 5 GB for image and model.
MAX_SERVERLESS_BYTES = 5 * 2**30


@dataclass(frozen=True)
class ModelArchive:
    """A packed model.

    Attributes:
        content: A gzipped tar of the files, which SageMaker unpacks into /opt/ml/model.
        sha256: Of the tar before it is compressed, which every zlib does in its own way; in hexadecimal digits.
    """

    content: bytes
    sha256: str

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> "ModelArchive":
        """Packs files by their paths in the folder; order, times, owners and the packer's name leave no trace."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for path, content in sorted(files.items()):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
        content = packed.getvalue()
        return cls(gzip.compress(content, mtime=0), hashlib.sha256(content).hexdigest())
