"""What a launch can cost at most, so that a limit in dollars holds: all its jobs, later tries, uploads, disk and S3.

A job's runtime is limited, its bill is not: instances are paid for while data come and results go, too, a spot job that
waits may run as long as it may wait, and each further instance type is a job of its own. What AWS does not limit is
assumed, in the constants below, so generously that it should hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from stocktake.cloud.cost_estimate import HOURS_PER_MONTH
from stocktake.cloud.prices import Prices
from stocktake.shell import override

GRACE_S = 120  # from SIGTERM to the end
# Before and after what the limit is known to count: the image and what is installed, or the whole disk where channels
# fill it; then checkpoints, model and output. 0.05 GB/s is a sixth of the slowest network that such instances have.
IMAGE_GB, KEPT_GB, FETCHED_GB = 20.0, 20.0, 1.0
TRANSFER_GB_PER_S = 0.05
OWN_CHANNELS = ("code", "config")
# On a bill of July 2026 (us-east-2, ml.g5.xlarge) an hour of spot jobs stood at 1.4084 USD, one on demand at 1.2575.
SPOT_METER_MARGIN = 1.13
SHORTEST_S = 600  # of a limit that is worth to be typed
REQUESTS_MARGIN = 2.0  # what an interruption loses is read again


@dataclass(frozen=True)
class Traffic:
    """What one job asks of S3, as far as it is known: what its images and checkpoints come to without interruption."""

    num_gets: int = 0
    num_puts: int = 0


@dataclass(frozen=True)
class Bound:
    """
    Attributes:
        usd: The most that the launch can cost, and its results in their first month.
        fixed_usd: Of it, what no shorter limit would save.
        usd_per_s: For each second of the limit, were it the same for all jobs.
        num_jobs: Later tries included.
        limit_s: The longest.
        price_day: Of the oldest price in it.
    """

    usd: float
    fixed_usd: float
    usd_per_s: float
    num_jobs: int
    limit_s: int
    price_day: date

    def longest_s(self, max_usd: float) -> int:
        """Returns the limit, of all jobs, with which the bound would be `max_usd`; below 1 where none would do."""
        return int((max_usd - self.fixed_usd) / self.usd_per_s)


def limit_s(request: Mapping[str, Any]) -> int:
    """Returns how long AWS lets a job run at most: of a spot job as long as it may wait and run together."""
    stopping = request["StoppingCondition"]
    if request.get("EnableManagedSpotTraining"):
        return stopping["MaxWaitTimeInSeconds"]
    return stopping["MaxRuntimeInSeconds"]


def bound(launch: Sequence[tuple[Sequence[Mapping[str, Any]], Traffic]], prices: Prices) -> Bound:
    """Returns what CreateTrainingJob requests can cost at most, at on-demand prices.

    Args:
        launch: For each job its requests, later tries behind the first, and its traffic.

    Raises:
        PriceUnknown: Of an instance type.
    """
    fixed_usd = limited_usd = usd_per_s = 0.0
    limits_s = []
    for requests, traffic in launch:
        for request in requests:
            of_job, per_s = _of_job(request, traffic, prices)
            limits_s.append(limit_s(request))
            fixed_usd, usd_per_s = fixed_usd + of_job, usd_per_s + per_s
            limited_usd += per_s * limits_s[-1]
    types = {one["InstanceType"] for requests, _ in launch for request in requests for one in _entries(request)}
    day = prices.oldest(types)
    return Bound(fixed_usd + limited_usd, fixed_usd, usd_per_s, len(limits_s), max(limits_s), day)


def _entries(request: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return request["ResourceConfig"].get("InstancePreferences", [request["ResourceConfig"]])


def _of_job(request: Mapping[str, Any], traffic: Traffic, prices: Prices) -> tuple[float, float]:
    """Returns what a job can cost beside its limit, and for each second of it."""
    resources, entries, other = request["ResourceConfig"], _entries(request), prices.other
    spot = bool(request.get("EnableManagedSpotTraining"))
    usd_per_hour = max(_usd_per_hour(one["InstanceType"], spot, prices) * one["InstanceCount"] for one in entries)
    volume_gb = resources["VolumeSizeInGB"]
    disks_gb = volume_gb * max(one["InstanceCount"] for one in entries)
    usd_per_s = (usd_per_hour + disks_gb * other.volume_usd_per_gb_month / HOURS_PER_MONTH) / 3600
    has_channels = any(channel["ChannelName"] not in OWN_CHANNELS for channel in request["InputDataConfig"])
    moved_gb = IMAGE_GB + KEPT_GB + (volume_gb if has_channels else 0)
    beside_s = GRACE_S + moved_gb / TRANSFER_GB_PER_S + resources.get("KeepAlivePeriodInSeconds", 0)
    requests_usd = REQUESTS_MARGIN * (traffic.num_gets * other.get_usd + traffic.num_puts * other.put_usd)
    kept_usd = KEPT_GB * other.stored_usd_per_gb_month + FETCHED_GB * other.fetched_usd_per_gb
    return usd_per_s * beside_s + requests_usd + kept_usd, usd_per_s


def _usd_per_hour(instance_type: str, spot: bool, prices: Prices) -> float:
    price = prices.of(instance_type)
    if not spot:
        return price.usd_per_hour
    return max(price.usd_per_hour, price.spot_usd_per_hour or price.usd_per_hour * SPOT_METER_MARGIN)


def refusal(
    found: Bound, max_usd: float, requests: Sequence[Mapping[str, Any]], earlier_usd: float = 0.0
) -> str | None:
    """Returns why a launch may not begin, and what to type; `None` where it is within its limit.

    Args:
        requests: All of the launch.
        earlier_usd: That jobs of the same sweep, sent before, can cost.
    """
    if found.usd + earlier_usd <= max_usd:
        return None
    longest_s = found.longest_s(max_usd - earlier_usd)
    way_out = f"Type hydra.launcher.max_usd={found.usd + earlier_usd + 0.005:.2f}, or fewer jobs or instances"
    if longest_s >= SHORTEST_S:
        spot = any(request.get("EnableManagedSpotTraining") for request in requests)
        keys = ["compute.max_runtime_s", *(["compute.max_wait_s"] if spot else [])]
        way_out = f"Type {' '.join(override(key, longest_s) for key in keys)}, or fewer jobs or instances"
    jobs = f"{found.num_jobs} job{'s' * (found.num_jobs > 1)}"
    before = f", beside the {earlier_usd:.2f} of what was sent before" if earlier_usd else ""
    return (
        f"hydra.launcher.max_usd={max_usd:g}, and this launch can cost {found.usd:.2f} USD{before}: {jobs} of up to "
        f"{found.limit_s} s, with the time to fetch and to store, disk and requests. {way_out}."
    )
