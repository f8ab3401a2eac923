"""Nearly equal pictures are found without comparing all with all, and exactly those."""

import itertools

from hypothesis import given
from hypothesis import strategies as some

from stocktake.data.ingest.duplicates import NEAR_DISTANCE, near_pairs, repeated


@given(some.lists(some.integers(0, 2**64 - 1), max_size=30), some.lists(some.integers(0, 63), max_size=6))
def test_the_pairs_are_those_that_comparing_all_with_all_finds(values, flips):
    if values:  # a near one of the first, which random numbers hardly ever give
        near = values[0]
        for bit in flips:
            near ^= 1 << bit
        values = [*values, near]
    hashes = {f"{number:03d}": value for number, value in enumerate(values)}
    expected = [
        (one, other)
        for one, other in itertools.combinations(sorted(hashes), 2)
        if (hashes[one] ^ hashes[other]).bit_count() <= NEAR_DISTANCE
    ]
    assert near_pairs(hashes) == expected


def test_repeated_names_the_first_of_equal_pictures():
    assert repeated({"3": "a", "1": "a", "2": "b", "4": "a"}) == {"3": "1", "4": "1"}
