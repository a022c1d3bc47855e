import numpy as np
import pytest
import torch

from offramp.analysis.toys.problems import CoupledProblem, Landscape, gradients
from offramp.errors import UserError

POINTS = np.random.default_rng(0).uniform(-10, 10, (200, 2))


def landscape(x1, x2, scale=1.0):
    """CAGrad's formulas, a point at a time."""
    h1 = np.log(max(abs(0.5 * (-x1 - 7) - np.tanh(-x2)), 5e-6)) + 6
    h2 = np.log(max(abs(0.5 * (-x1 + 3) + np.tanh(-x2) + 2), 5e-6)) + 6
    q1 = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    q2 = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    c1, c2 = max(np.tanh(0.5 * x2), 0), max(np.tanh(-0.5 * x2), 0)
    return np.array([scale * (h1 * c1 + q1 * c2), h2 * c1 + q2 * c2])


def coupled(w1, w2, delta):
    return np.array([(w1 + delta * w2 - 1) ** 2, (delta * w1 + w2 + 1) ** 2])


PROBLEMS = [
    (Landscape(), landscape),
    (Landscape("nash-mtl"), lambda x1, x2: landscape(x1, x2, 0.1)),
    (CoupledProblem(), lambda w1, w2: coupled(w1, w2, 0.95)),
    (CoupledProblem(0.4), lambda w1, w2: coupled(w1, w2, 0.4)),
]


@pytest.mark.parametrize(("problem", "formula"), PROBLEMS)
def test_losses_and_their_gradients(problem, formula):
    losses, rows = gradients(problem, torch.from_numpy(POINTS))
    step = 1e-6
    for point, loss, row in zip(POINTS, losses.numpy(), rows.numpy(), strict=True):
        np.testing.assert_allclose(loss, formula(*point), rtol=1e-12, atol=1e-12)
        slopes = [
            (formula(*(point + shift)) - formula(*(point - shift))) / (2 * step) for shift in step * np.eye(2)
        ]
        np.testing.assert_allclose(row, np.stack(slopes, axis=1), rtol=1e-4, atol=1e-6)


def test_a_valley_has_a_floor():
    x2 = 1.0
    bottom = torch.tensor([2 * np.tanh(x2) - 7, x2], dtype=torch.float64)  # where the first logarithm's is 0
    losses, rows = gradients(Landscape(), bottom)
    assert losses[0].item() == pytest.approx((np.log(5e-6) + 6) * np.tanh(0.5))
    assert rows.isfinite().all()


def test_starts_are_those_of_the_published_codes():
    assert Landscape().starts == ((-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0))
    assert len(Landscape("nash-mtl").starts) == 5


def test_nothing_dominates_the_pareto_set_of_a():
    problem = Landscape()
    best = problem.pareto()
    assert best[[0, -1], 0].tolist() == [-7, 7]
    assert best[500].tolist() == pytest.approx([0, -8.3552], abs=1e-4)  # the published height
    ticks = np.linspace(-11, 11, 221)
    grid = np.array([landscape(x1, x2) for x1 in ticks for x2 in ticks])
    for point in problem.losses(best[::50]).numpy():
        assert not (grid < point - 1e-9).all(axis=1).any()
    along = problem.losses(best)
    assert (along[1:, 0] < along[:-1, 0]).all()  # one loss falls as the other rises
    assert (along[1:, 1] > along[:-1, 1]).all()


@pytest.mark.parametrize("delta", [0.0, 0.4, 0.95])
def test_b_has_one_best_point_and_conflict_in_both_parameters_at_the_start(delta):
    problem = CoupledProblem(delta)
    np.testing.assert_allclose(problem.losses(problem.pareto()), [[0, 0]], atol=1e-20)
    _, rows = gradients(problem, torch.zeros(2, dtype=torch.float64))
    np.testing.assert_allclose(rows, [[-2, -2 * delta], [2 * delta, 2]])


def test_what_there_is_not():
    with pytest.raises(UserError, match="published is 'nash'"):
        Landscape("nash")
    with pytest.raises(UserError, match=r"delta is 1\.0, must be a number from 0 to below 1"):
        CoupledProblem(1.0)
