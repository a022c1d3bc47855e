"""Tails, bounds and p-values against exact fractions, and against scipy where it is there."""

import math
from fractions import Fraction

import numpy as np
import pytest

from offramp.exits.calibration._bounds import (
    binomial_tail,
    clopper_pearson,
    fewest_samples,
    hoeffding_bentkus,
)


def exact_tail(count: int, samples: int, rate: Fraction) -> Fraction:
    return sum(
        (math.comb(samples, k) * rate**k * (1 - rate) ** (samples - k) for k in range(count + 1)), Fraction(0)
    )


@pytest.mark.parametrize("rate", [Fraction(1, 100), Fraction(1, 3), Fraction(19, 20)])
@pytest.mark.parametrize(("count", "samples"), [(0, 1), (0, 40), (3, 40), (39, 40), (40, 40), (11, 300)])
def test_the_tail_is_that_of_exact_fractions(count, samples, rate):
    expected = float(exact_tail(count, samples, rate))
    assert binomial_tail(count, samples, float(rate)) == pytest.approx(expected, rel=1e-11)


def test_tails_and_bounds_are_those_of_scipy_for_many_samples():
    stats = pytest.importorskip("scipy.stats")
    for count, samples in [(0, 50_000), (400, 50_000), (24_000, 50_000), (49_999, 50_000)]:
        for rate in (1e-4, 0.01, 0.5, 0.999):
            expected = stats.binom.cdf(count, samples, rate)
            assert binomial_tail(count, samples, rate) == pytest.approx(expected, rel=1e-8, abs=1e-300)
        for delta in (0.01, 0.5):
            expected = stats.beta.ppf(1 - delta, count + 1, samples - count)
            assert clopper_pearson(count, samples, delta) == pytest.approx(expected, abs=1e-10)


def test_the_bound_is_where_the_tail_is_delta():
    for count in (0, 3, 39):
        assert binomial_tail(count, 40, clopper_pearson(count, 40, 0.1)) == pytest.approx(0.1)
    assert clopper_pearson(0, 40, 0.1) == pytest.approx(1 - 0.1 ** (1 / 40))
    assert clopper_pearson(40, 40, 0.1) == 1


def test_hoeffding_bentkus_is_the_formula():
    def divergence(a, b):
        return a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))

    bentkus = math.e * float(exact_tail(7, 300, Fraction(1, 20)))  # ceil(300 * 0.022) = 7
    expected = min(bentkus, math.exp(-300 * divergence(0.022, 0.05)))
    assert hoeffding_bentkus(0.022, 300, 0.05) == pytest.approx(expected)
    assert hoeffding_bentkus(0.0, 300, 0.05) == pytest.approx(0.95**300)
    assert hoeffding_bentkus(0.06, 300, 0.05) == 1
    assert 100 * 0.07 > 7  # in floats; 7 of 100 are meant
    at_most = math.e * float(exact_tail(7, 100, Fraction(1, 5)))
    assert hoeffding_bentkus(0.07, 100, 0.2) <= at_most * (1 + 1e-9)


def test_p_values_are_valid():
    """Losses whose mean is the risk itself get a p-value of at most u with a probability of at most u."""
    draws = np.random.default_rng(0)
    binary = draws.binomial(60, 0.1, size=2000)
    exact = np.array([binomial_tail(count, 60, 0.1) for count in range(61)])[binary]
    means = draws.beta(0.5, 4.5, size=(2000, 60)).mean(1)
    bounded = np.array([hoeffding_bentkus(mean, 60, 0.1) for mean in means])
    for u in (0.02, 0.1, 0.3):
        error = 3 * math.sqrt(u * (1 - u) / 2000)
        assert (exact <= u).mean() <= u + error and (bounded <= u).mean() <= u + error
    assert (exact <= 0.1).mean() > 0.04  # and it is not idle


def test_the_fewest_samples_are_those_from_which_no_hit_is_enough():
    for risk, delta in [(0.01, 0.05), (0.3, 0.1), (0.5, 0.5)]:
        n = fewest_samples(risk, delta)
        assert binomial_tail(0, n, risk) <= delta < (1 - risk) ** (n - 1)
