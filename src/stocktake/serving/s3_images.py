"""Images that a request names instead of sending: objects under prefixes that the server's owner has allowed."""

from collections.abc import Sequence

from stocktake.serving.errors import RejectedRequest, too_large
from stocktake.storage import Folder, ImpossibleKey, StorageError, StorageOptions, is_s3, split_url


class S3Images:
    """Reads `s3://bucket/key` where it lies under one of the allowed prefixes, and nothing else."""

    def __init__(self, allowed_prefixes: Sequence[str], storage: StorageOptions, max_bytes: int):
        """
        Args:
            allowed_prefixes: Of the form `s3://bucket/` or `s3://bucket/folder/`.
            storage: How to reach S3.
            max_bytes: A larger object is refused unread.

        Raises:
            ValueError: A prefix is not of that form.
        """
        for prefix in allowed_prefixes:
            if not (is_s3(prefix) and prefix.endswith("/") and prefix.count("/") > 2 and prefix[5] != "/"):
                # Without the slash at the end, s3://bucket/bins would open s3://bucket/bins-of-others, too.
                raise ValueError(f"allowed_prefixes: {prefix!r} needs the form s3://bucket/ or s3://bucket/folder/")
        self.allowed_prefixes, self.max_bytes = tuple(allowed_prefixes), max_bytes
        self._folders = {}
        self._storage = storage

    def read(self, url: str) -> bytes:
        """Returns the bytes of one object.

        Raises:
            RejectedRequest: It is not allowed, not there, too large, or S3 did not give it.
        """
        folder_url, name = split_url(url)
        has_odd_part = any(part in ("", ".", "..") for part in url.removeprefix("s3://").split("/"))
        if has_odd_part or not url.startswith(self.allowed_prefixes):
            raise RejectedRequest(
                403,
                "location-not-allowed",
                "s3_key does not lie under a prefix that this server may read.",
                "Send the image itself, or ask the server's owner to add its prefix to allowed_prefixes.",
            )
        bucket, _, path = folder_url.removeprefix("s3://").partition("/")
        folder = self._folders.setdefault(bucket, Folder(f"s3://{bucket}", self._storage))
        key = f"{path}/{name}" if path else name
        try:
            num_bytes = folder.size(key)
            if num_bytes is not None and num_bytes <= self.max_bytes:
                return folder.read(key)
        except (FileNotFoundError, ImpossibleKey):  # removed between the two requests, or never there
            num_bytes = None
        except StorageError as error:
            raise RejectedRequest(
                424,
                "storage",
                "The object could not be read from S3.",
                "Send the image itself, or try again; the server's log says what S3 answered.",
            ) from error
        if num_bytes is None:
            raise RejectedRequest(404, "no-such-object", "There is no such object in S3.", "Check bucket and key.")
        raise too_large(self.max_bytes)
