"""What a training would take and cost, before it is begun, with how far off that may be; and what is cheapest in time.

hours  = start-up + steps x (compute / instances + exchange of gradients) + validation
price  = instances x hours x USD an hour, + disk + requests to S3 + what is kept and fetched
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from stocktake.cloud.prices import InstancePrice, OtherPrices, Prices
from stocktake.cloud.training_rates import Range, Rate, num_parameters

BYTES_PER_GRADIENT = 4  # float32
UNKNOWN_PARAMETERS = 25e6  # of a network that is not on record: a ResNet50's
# Between instances, assumed: what the smallest ones keep up, and what they may reach for a while.
SLOW_BYTES_PER_S, FAST_BYTES_PER_S = 2.5e9 / 8, 10e9 / 8
GET_REQUESTS_PER_IMAGE = 1.05  # measured, docs/benchmarks.md: 1.02 to 1.11
HOURS_PER_MONTH = 730
KEPT_MONTHS = 1.0  # that results and checkpoints are counted for
ASSUMED_START = Range(300, 120, 600)  # seconds: image, packages and imports, before the first step; and the upload
NVME_FAMILIES = ("ml.g4dn", "ml.g5", "ml.g6", "ml.p4", "ml.p5")  # whose disk is their own, and costs nothing more


@dataclass(frozen=True)
class Workload:
    """What an experiment has to do, whatever it runs on.

    Attributes:
        batch_size: Global.
        num_validations: Of `num_valid_images` each.
        num_images_read: From S3, over all epochs; 0 where nothing is read there.
        volume_gb: Of an instance's disk.
        start: Seconds of a job in which nothing is trained.
    """

    backbone: str
    num_steps: int
    batch_size: int
    num_validations: int
    num_valid_images: int
    num_images_read: int
    volume_gb: int
    start: Range = ASSUMED_START

    @property
    def kept_gb(self) -> float:
        """Of checkpoints (weights and two moments each, two of them) and models."""
        return 8 * (num_parameters(self.backbone) or UNKNOWN_PARAMETERS) * 4 / 1e9

    def seconds(
        self, num_instances: int, start_s: float, images_per_s: float, validated_per_s: float, efficiency: float
    ) -> float:
        """Returns how long a job has its instances, each of which trains and validates at these rates when alone."""
        training_s = self.num_steps * self.batch_size / (images_per_s * num_instances * efficiency)
        validation_s = self.num_validations * self.num_valid_images / (validated_per_s * num_instances)
        return start_s + training_s + validation_s


@dataclass(frozen=True)
class Efficiency:
    """Of several instances: how many times one's rate they have, by their number.

    Attributes:
        is_measured: Else it is assumed from the bytes of a step's gradients and the network.
    """

    share: Range
    is_measured: bool


@dataclass(frozen=True)
class CostEstimate:
    """What one choice of instances would take.

    Attributes:
        hours: That the job has its instances.
        on_demand_usd: All of it, with disk, requests, what is kept and fetched.
        spot_usd: The same with the instances at the stated discounts.
        parts_usd: Of `on_demand_usd`, by what it is for.
    """

    instance_type: str
    num_instances: int
    hours: Range
    on_demand_usd: Range
    spot_usd: Range
    parts_usd: Mapping[str, float]
    rate: Rate
    efficiency: Efficiency
    price: InstancePrice

    @property
    def is_slower_than_one(self) -> bool:
        return self.num_instances * self.efficiency.share.value < 1

    def meets(self, deadline_h: float) -> bool:
        """Whether it would be done in time though all went slowly."""
        return self.hours.high <= deadline_h


def estimated(
    workload: Workload,
    instance_type: str,
    num_instances: int,
    rate: Rate,
    efficiency: Efficiency,
    prices: Prices,
    spot_discounts: Sequence[float],
) -> CostEstimate:
    """
    Args:
        spot_discounts: The least and the largest that is expected.

    Raises:
        PriceUnknown: Of the instance type.
    """
    price = prices.of(instance_type)
    share, images_per_s, validated_per_s, start = (
        efficiency.share,
        rate.images_per_s,
        rate.validated_per_s,
        workload.start,
    )
    hours = Range(
        workload.seconds(num_instances, start.value, images_per_s.value, validated_per_s.value, share.value),
        workload.seconds(num_instances, start.low, images_per_s.high, validated_per_s.high, share.high),
        workload.seconds(num_instances, start.high, images_per_s.low, validated_per_s.low, share.low),
    ) * (1 / 3600)
    instances = hours * (num_instances * price.usd_per_hour)
    beside = _beside(workload, instance_type, num_instances, hours.value, prices.other)
    extra = sum(beside.values())
    extras = Range(extra, extra, extra)
    least, most = min(spot_discounts), max(spot_discounts)
    billed = price.spot_usd_per_hour or price.usd_per_hour
    of_spot = instances * (billed / price.usd_per_hour)
    spot = Range(of_spot.value * (1 - (least + most) / 2), of_spot.low * (1 - most), of_spot.high * (1 - least))
    return CostEstimate(
        instance_type,
        num_instances,
        hours,
        instances + extras,
        spot + extras,
        {"instances": instances.value, **beside},
        rate,
        efficiency,
        price,
    )


def _beside(
    workload: Workload, instance_type: str, num_instances: int, hours: float, other: OtherPrices
) -> dict[str, float]:
    has_own_disk = instance_type.startswith(NVME_FAMILIES)
    disk_gb = 0 if has_own_disk else workload.volume_gb * num_instances
    return {
        "disk": disk_gb * hours / HOURS_PER_MONTH * other.volume_usd_per_gb_month,
        "requests": workload.num_images_read * GET_REQUESTS_PER_IMAGE * other.get_usd,
        "kept in S3": workload.kept_gb * KEPT_MONTHS * other.stored_usd_per_gb_month,
        "fetched": workload.kept_gb / 8 * other.fetched_usd_per_gb,  # the model, once
    }


def assumed_efficiency(workload: Workload, num_instances: int, rate: Rate) -> Efficiency:
    """Returns what several instances reach, from the time in which they exchange a step's gradients.

    A ring moves 2 (n - 1) / n of the gradients through each instance. At best that happens while others are computed,
    over a fast network; at worst after it, over a slow one.
    """
    if num_instances == 1:
        return Efficiency(Range(1, 1, 1), is_measured=True)
    parameters = num_parameters(workload.backbone)
    moved = 2 * (num_instances - 1) / num_instances * BYTES_PER_GRADIENT * (parameters or UNKNOWN_PARAMETERS)
    alone_s = workload.batch_size / rate.images_per_s.value
    share_s = alone_s / num_instances
    best_s = max(share_s, moved / FAST_BYTES_PER_S)
    likely_s = share_s + moved / FAST_BYTES_PER_S
    worst_s = share_s + moved / SLOW_BYTES_PER_S
    return Efficiency(Range(share_s / likely_s, share_s / worst_s, share_s / best_s), is_measured=False)


def compared(
    workload: Workload,
    rates: Mapping[str, Rate],
    nums_instances: Sequence[int],
    measured: Mapping[int, float],
    prices: Prices,
    spot_discounts: Sequence[float],
    num_at_rate: int = 1,
) -> list[CostEstimate]:
    """Returns an estimate for each type and number of instances.

    Args:
        measured: Efficiency by number of instances, 1 where they have as many times the rate of one.
        num_at_rate: Instances that trained together when the rates were measured.
    """
    return [
        estimated(
            workload, one, num, rate, _efficiency(workload, num, rate, measured, num_at_rate), prices, spot_discounts
        )
        for one, rate in rates.items()
        for num in nums_instances
    ]


def _efficiency(
    workload: Workload, num: int, rate: Rate, measured: Mapping[int, float], num_at_rate: int
) -> Efficiency:
    if num in measured or num == num_at_rate:
        share = measured.get(num, 1.0)
        return Efficiency(Range(share, share, share), is_measured=True)
    at_rate = assumed_efficiency(workload, num_at_rate, rate)
    return Efficiency(assumed_efficiency(workload, num, rate).share * (1 / at_rate.share.value), is_measured=False)


def cheapest(estimates: Sequence[CostEstimate], deadline_h: float | None, spot: bool) -> CostEstimate | None:
    """Returns the cheapest that is surely done in time, `None` where none is."""
    in_time = [one for one in estimates if deadline_h is None or one.meets(deadline_h)]
    return min(in_time, key=lambda one: (one.spot_usd if spot else one.on_demand_usd).value, default=None)


def oldest_day(estimates: Sequence[CostEstimate]) -> date:
    return min(one.price.day for one in estimates)


def num_batches(num_images: int, batch_size: int, limit: int | float | None, is_training: bool) -> int:
    """Returns the batches of an epoch; in training, those that are whole.

    Args:
        limit: Lightning's limit_*_batches: a number of them, or a share.
    """
    num = max(1, num_images // batch_size) if is_training else math.ceil(num_images / batch_size)
    if limit is None:
        return num
    return min(num, limit) if isinstance(limit, int) else int(num * limit)
