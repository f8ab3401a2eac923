"""Whether one model counts more bins exactly than another, or chance alone does."""

import math
from collections.abc import Sequence

import numpy
from numpy import ndarray


def sign_flip_test(differences_G: ndarray) -> float:
    """Returns how often chance alone makes two equally good models differ this much, either way (a p-value).

    If the models are equally good, it is as likely that the two had changed places in any group: the sign of every
    group's difference is a coin's throw (Fisher 1935, The Design of Experiments, section 21; Good 2005, Permutation,
    Parametric and Bootstrap Tests of Hypotheses, chapter 3). All 2^G throws are counted, none is drawn.

    Where every group is one bin this is the exact test of McNemar 1947 (its binomial form). On neighboring bins,
    which are nearly the same photo, McNemar's would be wrong: it takes every bin for a throw of its own, and calls
    chance a difference far more often than it says. A whole group is one throw here, so the bins within it may be as
    alike as they like, and the test has fewer throws to be sure by.

    Args:
        differences_G: How many more bins of each of G groups the one model counts exactly; whole numbers.
    """
    sizes = numpy.abs(differences_G[differences_G != 0])
    if len(sizes) == 0:
        return 1.0
    sizes, observed = sizes // numpy.gcd.reduce(sizes), abs(differences_G.sum()) // numpy.gcd.reduce(sizes)
    # chances[t]: that the groups which fall to the one model have t bins in all, so that it is ahead by 2 t - total.
    chances = numpy.ones(1)
    for size in numpy.sort(sizes):
        chances = numpy.pad(chances, (0, size)) / 2 + numpy.pad(chances, (size, 0)) / 2
    ahead = 2 * numpy.arange(len(chances)) - sizes.sum()
    return min(1.0, math.fsum(chances[numpy.abs(ahead) >= observed]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns each p-value made larger, so that among all of them chance is called a difference as seldom as in one.

    Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6: the
    smallest times their number, the next times one less, and none smaller than the one before.
    """
    order, adjusted, least = numpy.argsort(p_values), [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = least
    return adjusted
