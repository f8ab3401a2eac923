"""Models, endpoint configurations and endpoints of the rehearsed account, by their names."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from stocktake.rehearsal.job_state import ACCOUNT, REGION, RequestRefused

Kept = TypeVar("Kept")


def arn(kind: str, name: str) -> str:
    """Returns SageMaker's name of a resource for all of AWS; `kind` is such as `endpoint-config`."""
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name.lower()}"


@dataclass(frozen=True)
class Resource:
    """What is kept as it was sent: a model, or an endpoint configuration."""

    arn: str
    request: Mapping[str, Any]
    created_at: float = field(default_factory=time.time)


class ResourceStore(Generic[Kept]):
    """Resources of one kind; any thread may call its methods.

    Args:
        kind: As an ARN has it, such as `endpoint-config`.
        words: As AWS's errors have it, such as `endpoint configuration`.
    """

    def __init__(self, kind: str, title: str):
        self.kind, self.title = kind, title
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()

    def add(self, name: str, resource: Kept) -> None:
        """
        Raises:
            RequestRefused: There is one of this name.
        """
        with self._lock:
            if name in self._kept:
                text = f'Cannot create already existing {self.title} "{arn(self.kind, name)}".'
                raise RequestRefused("ValidationException", text)
            self._kept[name] = resource

    def get(self, name: str) -> Kept:
        """
        Raises:
            RequestRefused: There is none of this name.
        """
        with self._lock:
            if name not in self._kept:
                text = f'Could not find {self.title} "{arn(self.kind, name)}".'
                raise RequestRefused("ValidationException", text)
            return self._kept[name]

    def remove(self, name: str) -> Kept:
        """
        Raises:
            RequestRefused: There is none of this name.
        """
        resource = self.get(name)
        with self._lock:
            self._kept.pop(name, None)
        return resource

    def all(self) -> list[Kept]:
        with self._lock:
            return list(self._kept.values())
