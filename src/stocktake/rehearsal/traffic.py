"""Which fleet answers a request while an update is under way: blue is the old one, green the new one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from stocktake.rehearsal.fleet import Fleet


class Traffic:
    """Gives every request a fleet; any thread may call its methods.

    A share is kept exactly, not by chance: of ten requests a share of 0.1 is one.
    """

    def __init__(self, fleet: Fleet):
        self._blue, self._green, self._share = fleet, fleet, 0.0
        self._num_requests = 0
        self._lock = threading.Lock()

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        """Yields the fleet for one request, which does not end before the request does.

        Raises:
            RequestRefused: It takes no more at a time.
        """
        with self._lock:
            before, after = int(self._num_requests * self._share), int((self._num_requests + 1) * self._share)
            fleet = self._green if after > before else self._blue
            fleet.enter()  # before anybody can take the fleet away
            self._num_requests += 1
        try:
            yield fleet
        finally:
            fleet.leave()

    def shift(self, green: Fleet, share: float) -> None:
        """Sends this share of the requests to another fleet from now on."""
        with self._lock:
            self._green, self._share, self._num_requests = green, share, 0

    def settle(self, fleet: Fleet) -> None:
        """Sends all requests to one fleet."""
        with self._lock:
            self._blue, self._green, self._share = fleet, fleet, 0.0
