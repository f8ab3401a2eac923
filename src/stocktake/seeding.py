"""Randomness as a function: a seed for each purpose, derived from what it is for.

Nothing random is ever saved. What a sample looks like depends on (seed, epoch, image id), dropout on
(seed, step, rank), the order of an epoch on (seed, epoch); so a resumed run continues bit for bit.
"""

import hashlib

import numpy


def derive_seed(*purpose: str | int) -> int:
    """Returns a 63-bit seed that depends on every part of `purpose` and on nothing else."""
    digest = hashlib.blake2b("\x1f".join(map(str, purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*purpose: str | int) -> numpy.random.Generator:
    """Returns numpy's generator for a purpose; the same purpose always gives the same draws."""
    return numpy.random.default_rng(derive_seed(*purpose))
