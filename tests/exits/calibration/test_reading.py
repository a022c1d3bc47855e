"""Temperatures against a slow grid, and ensemble weights against another optimiser."""

import numpy as np
import pytest
import torch
from made_logits import made_logits

from offramp.exits import ExitLogits
from offramp.exits.calibration._ensembling import RIDGE, fit_ensemble
from offramp.exits.calibration._temperature import COLDEST, HOTTEST, fit_temperatures
from offramp.exits.calibration.reading import Reader


def test_temperatures_are_those_of_a_slow_grid():
    recorded = made_logits(300)
    recorded = ExitLogits(recorded.logits * torch.tensor([0.05, 1, 3, 20])[:, None, None], recorded.labels)
    grid = torch.logspace(np.log10(COLDEST), np.log10(HOTTEST), 4001, dtype=torch.float64)
    step = (grid[1] / grid[0]).item()
    for logits, found in zip(recorded.logits.double(), fit_temperatures(recorded), strict=True):
        losses = torch.stack(
            [torch.nn.functional.cross_entropy(logits / t, recorded.labels) for t in grid.split(1)]
        )
        best = grid[losses.argmin()].item()
        assert best / step <= found <= best * step
        at = torch.nn.functional.cross_entropy(logits / found, recorded.labels)
        assert at <= losses.min() + 1e-12


def test_temperatures_stay_within_bounds():
    labels = torch.arange(30) % 3
    right = torch.nn.functional.one_hot(labels, 3).float()
    found = fit_temperatures(ExitLogits(torch.stack([right, -right, torch.zeros(30, 3)]), labels))
    assert found[0] == pytest.approx(COLDEST) and found[1] == pytest.approx(HOTTEST)
    assert COLDEST <= found[2] <= HOTTEST  # all are as good


def test_an_ensemble_minimises_the_cross_entropy():
    optimize = pytest.importorskip("scipy.optimize")
    recorded, temperatures = made_logits(400, exits=3), (1.5, 1.0, 0.7)
    found = fit_ensemble(recorded, temperatures)
    logs = np.stack(
        [(z.double() / t).log_softmax(-1).numpy() for z, t in zip(recorded.logits, temperatures, strict=True)]
    )
    labels = recorded.labels.numpy()
    for k in (1, 2, 3):

        def loss(x, k=k):
            joint = np.tensordot(x[:k], logs[:k], 1) + x[k:]
            joint -= joint.max(-1, keepdims=True)
            own = joint[np.arange(len(labels)), labels] - np.log(np.exp(joint).sum(-1))
            return -own.mean() + RIDGE * (((x[:k] - 1 / k) ** 2).sum() + (x[k:] ** 2).sum())

        expected = optimize.minimize(loss, np.r_[np.full(k, 0.5), np.zeros(5)], method="BFGS").x
        np.testing.assert_allclose(found.weights[k - 1][:k], expected[:k], atol=2e-3)
        np.testing.assert_allclose(found.log_bias[k - 1], expected[k:], atol=2e-3)
        assert found.weights[k - 1][k:] == (0.0,) * (3 - k)


def test_what_is_not_to_be_fitted_is_not():
    recorded = made_logits(100)
    plain = Reader().fit(recorded)
    assert plain.temperatures == (1.0,) * 4 and plain.ensemble is None and plain.evaluated == (4,)
    assert Reader("margin", temperatures=True).fit(recorded).temperatures == fit_temperatures(recorded)
    assert Reader("ensemble").fit(recorded).ensemble == fit_ensemble(recorded, (1.0,) * 4)
