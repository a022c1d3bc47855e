"""Calibration to a risk: the part of it that early exits add is kept below a bound, as is promised.

What a sample loses by leaving early is a number in [0, 1]: whether its answer is wrong where the full
network's is right (``"wrong"``), or by how much its Brier score is worse (``"brier"``). Candidates are a path
of thresholds from "nobody leaves" on, fixed before the samples are seen that test it.

- *With confidence 1 - delta* (learn then test, Angelopoulos et al., 2021): the candidates are tested in the
  order of the path, each for "the mean loss is above the risk" at level delta, until one is not rejected.
  Since the order is fixed, all that were rejected before are right together with probability 1 - delta.
- *In expectation* (conformal risk control, Angelopoulos et al., ICLR 2024): needs losses that only grow along
  the path. They need not, as a sample may leave at a wrong exit later and at a right one before; so each loss
  is replaced by its largest so far, which can only overstate it.

Jazbec et al., Fast yet safe: early-exiting with risk control (NeurIPS 2024).
"""

from __future__ import annotations

import math

import numpy as np

from offramp.exits.calibration._bounds import binomial_tail, fewest_samples, hoeffding_bentkus
from offramp.exits.calibration._table import Array

__all__ = ["enough_samples", "in_expectation", "least_risk", "least_with", "with_confidence"]


def with_confidence(losses: Array, risk: float, delta: float, *, binary: bool) -> int:
    """How many candidates from the first on have a mean loss of at most the risk, with confidence 1 - delta.

    Args:
        losses: What each sample loses under each candidate, in the order of the path, ``[J, N]``.
        risk: Between 0 and 1.
        delta: Between 0 and 1.
        binary: Whether a loss is 0 or 1, so that the exact tail of the binomial distribution tests it; or
            else in [0, 1], tested by the bound of Hoeffding and Bentkus.
    """
    samples = losses.shape[1]
    for passed, row in enumerate(losses):
        if binary:
            p_value = binomial_tail(int(row.sum()), samples, risk)
        else:
            p_value = hoeffding_bentkus(float(row.mean()), samples, risk)
        if p_value > delta:
            return passed
    return len(losses)


def in_expectation(losses: Array, risk: float) -> int:
    """How many candidates from the first on have a mean loss of at most the risk, in expectation.

    Args:
        losses: ``[J, N]``, in [0, 1], in the order of the path; each is replaced by the sample's largest so
            far.
        risk: Between 0 and 1.
    """
    samples = losses.shape[1]
    bounds = (np.maximum.accumulate(losses, axis=0).sum(1) + 1) / (samples + 1)
    return int((bounds <= risk).sum())  # they only grow


def least_risk(losses: Array, delta: float | None, *, binary: bool) -> float:
    """The smallest risk that is shown of a candidate behind the first, found by bisection.

    Args:
        losses: As for :func:`with_confidence`.
        delta: Between 0 and 1; None: in expectation.
        binary: As for :func:`with_confidence`.
    """
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        risk, rows = (low + high) / 2, losses[:2]
        shown = (
            in_expectation(rows, risk) if delta is None else with_confidence(rows, risk, delta, binary=binary)
        )
        low, high = (low, risk) if shown == 2 else (risk, high)
    return high


def least_with(samples: int, delta: float | None) -> float:
    """The smallest risk that so many test samples show where none of them loses anything."""
    if delta is None or samples == 0:
        return 1 / (samples + 1)
    return float(-np.expm1(math.log(delta) / samples))


def enough_samples(risk: float, delta: float | None) -> int:
    """How many test samples it takes for any promise at all; delta None: in expectation."""
    return math.ceil(1 / risk - 1 - 1e-9) if delta is None else fewest_samples(risk, delta)
