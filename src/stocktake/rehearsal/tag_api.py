"""SageMaker's tags: of whatever has an ARN, from its creation on."""

import threading
from collections.abc import Mapping

from stocktake.rehearsal.api_protocols import Operations


class Tags:
    """Tags by ARN; any thread may call its methods."""

    def __init__(self):
        self._tags: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {"AddTags": self._add, "DeleteTags": self._delete, "ListTags": self._list}

    def keep(self, arn: str, request: Mapping) -> None:
        """Keeps the tags of a request that makes something."""
        self._add({"ResourceArn": arn, "Tags": request.get("Tags", ())})

    def forget(self, arn: str) -> None:
        with self._lock:
            self._tags.pop(arn, None)

    def _add(self, request: Mapping) -> dict:
        with self._lock:
            tags = self._tags.setdefault(request["ResourceArn"], {})
            tags.update((tag["Key"], tag["Value"]) for tag in request["Tags"])
            return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _delete(self, request: Mapping) -> dict:
        with self._lock:
            for key in request["TagKeys"]:
                self._tags.get(request["ResourceArn"], {}).pop(key, None)
        return {}

    def _list(self, request: Mapping) -> dict:
        with self._lock:
            tags = self._tags.get(request["ResourceArn"], {})
            return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
