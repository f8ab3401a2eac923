"""What torch.save wrote, read back as data alone and whole: no code, no file that swells, no bit that has turned."""

import io
import zipfile
from typing import Any

import torch

ZIP_START = b"PK"  # what torch.save writes is a zip file


class DamagedFile(ValueError):
    """A file whose parts are not what they were when it was written."""


def load_plain(content: bytes, map_location: str = "cpu") -> Any:
    """Returns the tensors and plain values in a file of torch's.

    Raises:
        DamagedFile: A checksum in it is not that of its content, or it holds more than its own size.
        Exception: torch has a dozen different ones for a file that is cut off or none of its own.
    """
    if content.startswith(ZIP_START):
        _check_archive(content)
    return torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)


def _check_archive(content: bytes) -> None:
    """Refuses what torch's own reader passes over: it checks no checksum, and unpacks whatever is packed.

    Raises:
        DamagedFile: As `load_plain` says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            num_bytes = sum(entry.file_size for entry in entries)
            if num_bytes > len(content) or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise DamagedFile(f"it unpacks to {num_bytes} bytes, and what torch.save writes is not packed")
            damaged = archive.testzip()
    except DamagedFile:
        raise
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise DamagedFile(f"it is no whole zip file: {error}") from None
    if damaged is not None:
        raise DamagedFile(f"{damaged} in it has another checksum than when it was written: its bits have changed since")
