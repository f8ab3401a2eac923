"""How many images a second an instance trains: measured on this experiment where it was, else from what is on record.

Nobody has trained this project on AWS. What is on record: timm's own measurements on an RTX 3090, whose chip (GA102) is
the A10G's, and this project's on two cores of a CPU. What is made of them for an instance is assumed, and wide.
"""

import re
from dataclasses import dataclass
from typing import Self

# timm at 5e7d47c, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv: images/s in training, batches of 512, and
# the side in pixels; the last column is its number of parameters, in millions.
RTX_3090 = {
    "convnext_tiny": (819.24, 224, 28.59),
    "efficientnet_b0": (1751.72, 224, 5.29),
    "mobilenetv2_100": (2313.10, 224, 3.5),
    "resnet10t": (6318.63, 176, 5.44),
    "resnet18": (3481.78, 224, 11.69),
    "resnet34": (2036.51, 224, 21.8),
    "resnet50": (1218.01, 224, 25.56),
    "resnet101": (747.89, 224, 44.55),
}
# Two cores of an AMD EPYC, float32, measured with this project: images/s, and the side in pixels.
TWO_CORES = {"mobilenetv2_100": (20.0, 224), "resnet10t": (320.0, 96), "resnet18": (40.0, 128), "resnet50": (4.5, 224)}
# Shares of the RTX 3090's rate, assumed: batches are of 32 here, and the memory of an A10G moves 600 GB/s, that of a T4
# or L4 about 300, where the 3090's moves 936.
GPUS = {"g4dn": (0.2, 0.12, 0.32), "g5": (0.4, 0.25, 0.65), "g6": (0.25, 0.15, 0.45)}
NUM_GPUS = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}  # of these families; the other sizes have one
CPU = re.compile(r"ml\.[cm]\d\w*\.(\d*)(large|xlarge)")  # two virtual CPUs are one core
VALIDATED = 3.0  # images in the time of one in training: forward alone, of forward and a backward of twice the work
CPU_SHARES = (1.0, 0.5, 2.0)  # of the measured rate for as many cores, assumed


@dataclass(frozen=True)
class Range:
    """A number and how far it may be off on either side."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, share: float) -> Self:
        return cls(value, value * (1 - share), value * (1 + share))

    def __mul__(self, factor: float) -> "Range":
        return Range(self.value * factor, self.low * factor, self.high * factor)

    def __add__(self, other: "Range") -> "Range":
        return Range(self.value + other.value, self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Rate:
    """
    Attributes:
        images_per_s: That one instance trains.
        validated_per_s: That it validates.
        is_measured: On this experiment; else assumed.
        source: How it is known, in words.
    """

    images_per_s: Range
    validated_per_s: Range
    is_measured: bool
    source: str

    def scaled(self, share: float, source: str) -> "Rate":
        """Returns what is assumed of an instance that is `share` as fast."""
        return Rate(self.images_per_s * share, self.validated_per_s * share, False, source)


def num_parameters(backbone: str) -> float | None:
    """Returns how many a network has, `None` where it is not on record."""
    return RTX_3090[backbone][2] * 1e6 if backbone in RTX_3090 else None


def recorded_rate(instance_type: str, backbone: str, image_size_px: int) -> Rate | None:
    """Returns what is assumed of an instance type; `None` where nothing is on record to assume it from."""
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    cpu = CPU.fullmatch(instance_type)
    if family in GPUS and backbone in RTX_3090:
        measured_per_s, measured_px, _ = RTX_3090[backbone]
        shares, times = GPUS[family], NUM_GPUS.get(size, 1)
        source = f"assumed: {shares[0]:g} ({shares[1]:g} to {shares[2]:g}) of timm's on an RTX 3090"
    elif cpu and backbone in TWO_CORES:
        measured_per_s, measured_px = TWO_CORES[backbone]
        shares, times = CPU_SHARES, 0.5 if cpu[2] == "large" else float(cpu[1] or 1)  # an xlarge has two cores
        source = f"assumed: {shares[1]:g} to {shares[2]:g} of this project's on as many cores"
    else:
        return None
    images_per_s = measured_per_s * times * (measured_px / image_size_px) ** 2
    trained = Range(*(share * images_per_s for share in shares))
    return Rate(trained, trained * VALIDATED, False, source)


def rates_of(
    instance_types: list[str], backbone: str, image_size_px: int, known: Rate | None
) -> tuple[dict[str, Rate], list[str]]:
    """Returns each type's rate, and the types of which none can be said.

    Args:
        known: Of the first type; the others' are then assumed from it and from how far they are apart on record.
    """
    recorded = {one: recorded_rate(one, backbone, image_size_px) for one in instance_types}
    first = recorded[instance_types[0]]
    rates, unknown = {}, []
    for one in instance_types:
        own = recorded[one]
        if known is not None and one == instance_types[0]:
            rates[one] = known
        elif known is not None and own is not None and first is not None:
            share = own.images_per_s.value / first.images_per_s.value
            rates[one] = known.scaled(share, f"assumed: {share:.2g} times {instance_types[0]}'s")
        elif known is None and own is not None:
            rates[one] = own
        else:
            unknown.append(one)
    return rates, unknown
