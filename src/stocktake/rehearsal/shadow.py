"""Shadow variants: copies of an endpoint's requests, whose answers go into CloudWatch and the capture alone.

Developer guide of SageMaker, "Testing models with shadow variants" and "Create a shadow test".
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stocktake.rehearsal.data_capture import DataCapture, Exchange
from stocktake.rehearsal.endpoint_instance import INVOCATION_TIMEOUT_S, ContainerAnswer, NoAnswer, NotHealthy
from stocktake.rehearsal.endpoint_state import Deployed
from stocktake.rehearsal.fleet import Fleet
from stocktake.rehearsal.invocation_counts import Invocation, InvocationCounts

NUM_AT_ONCE = 8


class Shadows:
    """Asks the shadows beside the answering; any thread may call its methods."""

    def __init__(self, counts: InvocationCounts, capture: DataCapture):
        self.counts, self.capture = counts, capture
        self._num_seen: Counter[str] = Counter()
        self._lock, self._sender = threading.Lock(), ThreadPoolExecutor(NUM_AT_ONCE, "shadow")

    def close(self) -> None:
        """Returns when all copies have been answered."""
        self._sender.shutdown()

    def copy(self, endpoint: str, deployed: Deployed, request: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Gives the shadow a copy of a request, if it is one of the share that is copied; every n-th is.

        Args:
            headers: That the container is given.
        """
        if deployed.shadow is None:
            return
        weight, whole = (fleet.variant.get("InitialVariantWeight", 1.0) for fleet in (deployed.shadow, deployed.fleet))
        with self._lock:
            number = self._num_seen[endpoint]
            self._num_seen[endpoint] += 1
        if int((number + 1) * weight / whole) > int(number * weight / whole):
            deployed.shadow.enter()  # before anybody can take the fleet away
            self._sender.submit(self._ask, endpoint, deployed.shadow, deployed.config, request, headers)

    def _ask(
        self,
        endpoint: str,
        shadow: Fleet,
        config: Mapping[str, Any],
        request: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> None:
        began, variant = time.monotonic(), shadow.variant["VariantName"]
        try:
            _, answer = shadow.invoke(request.get("Body", b""), headers, INVOCATION_TIMEOUT_S)
        except (NotHealthy, NoAnswer) as error:
            answer = ContainerAnswer(0, str(error).encode(), {}, time.monotonic() - began)
        finally:
            shadow.leave()
        self.counts.add(Invocation(endpoint, variant, answer.status, answer.latency_s))
        if 200 <= answer.status < 300:
            content_type = answer.headers.get("content-type", "")
            self.capture.keep(config, Exchange(endpoint, variant, request, answer.content, content_type))
