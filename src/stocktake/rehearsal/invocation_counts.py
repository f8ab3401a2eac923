"""What CloudWatch would know of an endpoint's invocations (namespace AWS/SageMaker)."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MAX_KEPT = 100_000


@dataclass(frozen=True)
class Invocation:
    """One request to a model.

    Attributes:
        status: What the model answered; 0 where no answer came.
        component: Of the inference component that was asked; empty where the variant holds the model.
    """

    endpoint: str
    variant: str
    status: int
    latency_s: float
    component: str = ""
    at: float = field(default_factory=time.monotonic)

    @property
    def dimensions(self) -> dict[str, str]:
        """Returns those under which CloudWatch has its metrics."""
        if self.component:
            return {"InferenceComponentName": self.component}
        return {"EndpointName": self.endpoint, "VariantName": self.variant}

    @property
    def is_client_error(self) -> bool:
        return 400 <= self.status < 500

    @property
    def is_server_error(self) -> bool:
        return self.status >= 500 or self.status == 0


# Each invocation gives each metric one value. ModelLatency is in microseconds.
METRICS: dict[str, Callable[[Invocation], float]] = {
    "Invocations": lambda _: 1.0,
    "Invocation4XXErrors": lambda invocation: float(invocation.is_client_error),
    "Invocation5XXErrors": lambda invocation: float(invocation.is_server_error),
    "ModelLatency": lambda invocation: invocation.latency_s * 1e6,
}


class InvocationCounts:
    """The last invocations of all endpoints; any thread may call its methods."""

    def __init__(self):
        self._invocations: deque[Invocation] = deque(maxlen=MAX_KEPT)
        self._lock = threading.Lock()

    def add(self, invocation: Invocation) -> None:
        with self._lock:
            self._invocations.append(invocation)

    def values(self, metric: str, dimensions: Mapping[str, str], since: float, until: float) -> list[float]:
        """Returns a metric's values of the invocations between two times of `time.monotonic`."""
        if metric not in METRICS:
            return []
        with self._lock:
            kept = list(self._invocations)
        return [METRICS[metric](each) for each in kept if each.dimensions == dimensions and since < each.at <= until]
