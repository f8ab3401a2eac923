"""The exact test over blocks, by hand, against scipy, and on models that are known to be equally good."""

import numpy
import pytest
from scipy.stats import binomtest, permutation_test

from stocktake.metrics.significance import holm, sign_flip_test


def singles(num_ahead: int, num_behind: int, num_equal: int = 5) -> numpy.ndarray:
    return numpy.repeat([1, -1, 0], [num_ahead, num_behind, num_equal])


def test_single_bins_are_mcnemars_test_by_hand():
    # Of 8 throws, 7 or more fall alike in 2 * (1 + 8) of 256 cases.
    assert sign_flip_test(singles(7, 1)) == pytest.approx(18 / 256)
    assert sign_flip_test(singles(1, 7)) == pytest.approx(18 / 256)
    assert sign_flip_test(singles(4, 4)) == 1
    assert sign_flip_test(singles(0, 0)) == 1


@pytest.mark.parametrize(("ahead", "behind"), [(0, 1), (3, 9), (39, 35), (100, 126), (300, 180), (2000, 1900)])
def test_single_bins_against_scipys_exact_binomial_test(ahead, behind):
    expected = binomtest(ahead, ahead + behind, 0.5).pvalue
    assert sign_flip_test(singles(ahead, behind)) == pytest.approx(expected, rel=1e-9)
    # Three runs a side: the differences of the means, times three.
    assert sign_flip_test(3 * singles(ahead, behind)) == pytest.approx(expected, rel=1e-9)


def test_blocks_by_hand():
    # Throws of 3, 1, 1: the sums are 5, 3, 3, 1 and their negatives, so 3 or more in 6 of 8 cases.
    assert sign_flip_test(numpy.array([3, 1, -1])) == pytest.approx(6 / 8)
    assert sign_flip_test(numpy.array([3, 1, 1, 0])) == pytest.approx(2 / 8)
    assert sign_flip_test(numpy.array([4])) == 1


def test_blocks_against_scipys_exact_permutations():
    for seed in range(5):
        differences_G = numpy.random.default_rng(seed).integers(-4, 6, 11)
        oracle = permutation_test((differences_G,), numpy.sum, permutation_type="samples", n_resamples=numpy.inf)
        assert sign_flip_test(differences_G) == pytest.approx(oracle.pvalue)


def test_near_copies_do_not_make_it_sure_as_they_make_mcnemars_test():
    numbers = numpy.random.default_rng(0)
    false_alarms = {"blocks": 0, "bins": 0}
    for _ in range(300):  # two equally good models; the 6 bins of each of 40 blocks go the same way
        blocks = 6 * numbers.choice([-1, 0, 1], 40)
        false_alarms["blocks"] += sign_flip_test(blocks) < 0.05
        ahead, behind = blocks[blocks > 0].sum(), -blocks[blocks < 0].sum()
        false_alarms["bins"] += binomtest(int(ahead), int(ahead + behind), 0.5).pvalue < 0.05
    assert false_alarms["blocks"] <= 0.05 * 300 + 10
    assert false_alarms["bins"] > 0.3 * 300


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.6]) == pytest.approx([1, 0.003, 1])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
