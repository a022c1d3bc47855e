"""p-values and bounds for the mean of losses in [0, 1], exact or valid for every number of samples."""

from __future__ import annotations

import math

import torch

__all__ = ["binomial_tail", "clopper_pearson", "fewest_samples", "hoeffding_bentkus"]


def binomial_tail(count: int, samples: int, rate: float) -> float:
    """P(X <= count) of a binomial X of so many samples and a rate, 0 < rate < 1, in float64.

    It is the exact p-value of "the rate is above ``rate``" where ``count`` of the samples were hit.
    """
    if count >= samples:
        return 1.0
    hits = torch.arange(count + 1, dtype=torch.float64)
    ways = math.lgamma(samples + 1) - torch.lgamma(hits + 1) - torch.lgamma(samples - hits + 1)
    logs = ways + hits * math.log(rate) + (samples - hits) * math.log1p(-rate)
    return min(1.0, logs.logsumexp(0).exp().item())


def clopper_pearson(count: int, samples: int, delta: float) -> float:
    """The upper bound of a rate that holds with probability 1 - delta (Clopper and Pearson, 1934).

    It is the rate at which :func:`binomial_tail` is delta, found by bisection.
    """
    if count >= samples:
        return 1.0
    low, high = count / samples, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(count, samples, middle) > delta else (low, middle)
    return high


def hoeffding_bentkus(mean: float, samples: int, risk: float) -> float:
    """The p-value of "the mean loss is above ``risk``" for losses in [0, 1] (Bates et al., JACM 2021).

    min(exp(-n h(min(mean, risk), risk)), e P(Bin(n, risk) <= ceil(n mean))), h(a, b) = a log(a / b) +
    (1 - a) log((1 - a) / (1 - b)).

    Args:
        mean: Of the losses.
        samples: How many there are (n).
        risk: Between 0 and 1.
    """
    a = min(mean, risk)
    entropy = (a * math.log(a / risk) if a > 0 else 0.0) + (1 - a) * math.log((1 - a) / (1 - risk))
    count = math.ceil(samples * mean - 1e-9)  # what is an integer but for rounding is that integer
    bentkus = math.e * binomial_tail(count, samples, risk)
    return min(1.0, math.exp(-samples * entropy), bentkus)


def fewest_samples(risk: float, delta: float) -> int:
    """With fewer samples, not even losses that are all 0 show that the mean is at most ``risk``."""
    return math.ceil(math.log(delta) / math.log1p(-risk))
