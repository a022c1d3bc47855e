import numpy as np
import pytest
from scipy import stats

from offramp.reports import paired_difference, spread
from offramp.reports._student_t import two_sided_quantile


@pytest.mark.parametrize("df", [*range(1, 12), 29, 30, 100])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_quantile_is_scipys(df, level):
    assert two_sided_quantile(level, df) == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_interval_is_that_of_scipys_paired_test(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(31, 1, n), rng.normal(30, 1, n)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    ours = paired_difference(a.tolist(), b.tolist())
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert ours.mean == pytest.approx((a - b).mean())
    assert ours.n == n


def test_one_seed_has_a_mean_and_no_interval():
    difference = paired_difference([31.5], [30.0])
    assert (difference.mean, difference.low, difference.high) == (1.5, None, None)
    assert str(difference) == "+1.50"
    assert not difference.decided


def test_text_is_the_mean_and_half_the_interval_with_a_star_where_it_leaves_out_0():
    # pairs -2 and -1: standard error 0.5, t(0.975; 1) = 12.7062
    assert str(paired_difference([1.0, 1.0], [3.0, 2.0])) == "-1.50 ± 6.35 "
    # pairs 3, 4 and 5: standard error 1 / sqrt(3), t(0.975; 2) = 4.3027
    assert str(paired_difference([3.0, 4.0, 5.0], [0.0] * 3)) == "+4.00 ± 2.48*"


def test_two_seeds_get_no_star_however_equal_they_are():
    difference = paired_difference([30.0, 31.0], [31.1, 32.1])
    assert str(difference) == "-1.10 ± 0.00 "
    assert not difference.decided
    assert str(paired_difference([30.0, 31.0, 32.0], [31.1, 32.1, 33.1])) == "-1.10 ± 0.00*"


def test_spread_is_the_sample_standard_deviation():
    values = [29.1, 31.4, 30.2]
    ours = spread(values)
    assert (ours.mean, ours.std) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert spread([3.0]).std is None
