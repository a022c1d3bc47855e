"""FairGrad, GetMTL and GradVac against their equations, by search, and TorchJD."""

import pytest
import torch
from gradient_rows import FAMILIES, rows
from torchjd.aggregation import FairGradWeighting, GradVacWeighting, PCGradWeighting

from offramp import UserError
from offramp.methods import METHODS, method
from offramp.methods.combiners.fairgrad import FairGrad, fair_weights
from offramp.methods.combiners.getmtl import getmtl_weights
from offramp.methods.combiners.gradvac import GradVac
from offramp.methods.combiners.nash_mtl import nash_weights
from offramp.methods.combiners.solvers import SolverFailure
from offramp.methods.seeded import seeded

SIZES = (2, 3, 5, 7)
CASES = [(family, m) for family in FAMILIES for m in SIZES]
CPU = torch.device("cpu")


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize(("family", "m"), CASES)
@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0, 20.0])
def test_fair_weights_solve_their_equation(family, m, alpha):
    for seed in range(3):
        J = rows(family, m, seed)
        G = J @ J.T
        w = fair_weights(G, alpha)
        assert w.min() > 0
        assert (G / G.norm() @ w * w ** (1 / alpha) - 1).abs().max() < 1e-9
        assert (J @ (w @ J)).min() > 0  # every loss falls


@pytest.mark.parametrize("m", SIZES)
def test_of_alpha_one_they_are_nashs(m):
    for seed in range(3):
        G = rows("alike", m, seed) @ rows("alike", m, seed).T
        torch.testing.assert_close(fair_weights(G, 1.0), nash_weights(G))


def test_at_the_papers_scale_they_are_torchjds():
    for alpha in (0.5, 1.0, 2.0):
        J = rows("alike", 4)
        G = J @ J.T
        found = FairGrad(alpha=alpha, scaling="native").weighting()(G, torch.ones(4))
        torch.testing.assert_close(found, FairGradWeighting(alpha=alpha)(G), rtol=1e-5, atol=0)


def test_of_orthogonal_rows_in_closed_form():
    norms = vector(0.1, 1.0, 30.0)
    G = torch.diag(norms**2)
    for alpha in (0.5, 1.0, 2.0):
        w = FairGrad(alpha=alpha, scaling="native").weighting()(G, torch.ones(3))
        torch.testing.assert_close(w, norms ** (-2 * alpha / (1 + alpha)))


def test_the_weights_have_no_unit_and_no_order():
    J, order = rows("of very different norms", 5), [3, 0, 4, 1, 2]
    w = fair_weights(J @ J.T, 2.0)
    torch.testing.assert_close(fair_weights(1e-6 * J @ J.T, 2.0), w)
    torch.testing.assert_close(fair_weights(J[order] @ J[order].T, 2.0), w[order])


def test_rows_that_balance_have_no_fair_weights():
    J = torch.stack([vector(1, 0), vector(-1, 0)])
    with pytest.raises(SolverFailure):
        fair_weights(J @ J.T, 2.0)


@pytest.mark.parametrize(("family", "m"), CASES)
@pytest.mark.parametrize("radius", [0.05, 0.3, 0.8])
def test_getmtl_is_on_the_edge_and_has_no_gap(family, m, radius):
    """The constraint is active, and the worst progress is the dual's value: no direction is better."""
    for seed in range(3):
        J = rows(family, m, seed)
        g0 = J.mean(0)
        eps = radius / g0.norm()
        w = getmtl_weights(J @ J.T, float(eps)) / m
        d = w @ J
        assert (d - g0).norm() <= eps * g0.norm() * d.norm() * (1 + 1e-8)
        dual = w * (1 - radius**2) - 1 / m
        g_w = dual / dual.sum() @ J
        bound = (g_w @ g0 + eps * g0.norm() ** 2 * g_w.norm()) / (1 - radius**2)
        assert torch.isclose((J @ d).min(), bound, rtol=1e-6, atol=1e-7 * J.norm(dim=1).min() * g0.norm())


def test_getmtl_beats_every_other_direction_of_its_set():
    """20,000 directions of the plane; those in the set, at their best length."""
    J, eps = torch.stack([vector(1, 0.2), vector(-2, 1.5)]), 0.8
    g0 = J.mean(0)
    d = getmtl_weights(J @ J.T, eps) / 2 @ J
    angles = torch.linspace(0, 2 * torch.pi, 20001, dtype=torch.float64)
    directions = torch.stack([angles.cos(), angles.sin()], 1)
    lengths = torch.linspace(0.1, 4, 400, dtype=torch.float64) * g0.norm()
    best = -torch.inf
    for length in lengths:
        inside = (length * directions - g0).norm(dim=1) <= eps * g0.norm() * length
        progress = (length * directions @ J.T).min(1).values
        best = max(best, float(progress[inside].max())) if inside.any() else best
    assert float((J @ d).min()) >= best - 1e-3
    assert float((J @ d).min()) <= best + 0.02  # what the grid of lengths misses


def test_without_distance_getmtl_is_the_sum_and_far_away_it_is_held():
    J = rows("alike", 3)
    torch.testing.assert_close(getmtl_weights(J @ J.T, 0.0), vector(1, 1, 1))
    for eps, factor in ((0.15, 1 / (1 - 0.15 * 2)), (0.44, 1 / (1 - 0.44 * 2)), (1e9, 1 / (1 - 0.9))):
        equal = torch.full((3, 3), 4.0, dtype=torch.float64)  # rows of the norm 2
        torch.testing.assert_close(getmtl_weights(equal, eps).sum(), vector(3 * factor).squeeze())


def test_the_first_step_of_gradvac_on_two_rows_is_pcgrads():
    for seed in range(5):
        J = rows("random", 2, seed)
        found = GradVac().weighting()(J @ J.T, torch.ones(2))
        torch.testing.assert_close(found, PCGradWeighting()(J @ J.T))


def test_gradvac_is_torchjds_step_by_step_and_goes_on():
    ours, theirs = GradVac(beta=0.3).weighting(), GradVacWeighting(beta=0.3)
    other = GradVac(beta=0.3).weighting()
    for step in range(6):
        J = rows("random", 3, step)
        with seeded(CPU, step):
            found = ours(J @ J.T, torch.ones(3))
        with seeded(CPU, step):
            torch.testing.assert_close(found, theirs(J @ J.T))
        if step == 3:
            other.load(ours.state())
    again = GradVac(beta=0.3).weighting()
    again.load(ours.state())
    J = rows("random", 3, 9)
    results = []
    for weighting in (ours, again):
        with seeded(CPU, 9):
            results.append(weighting(J @ J.T, torch.ones(3)))
    assert torch.equal(*results)


def test_after_a_correction_the_cosine_is_the_average():
    """The average is 0.5 once it has seen a cosine of 1 at a beta of 0.5."""
    weighting = GradVac(beta=0.5).weighting()
    alike = torch.stack([vector(1, 0), vector(2, 0)])
    weighting(alike @ alike.T, torch.ones(2))
    J = torch.stack([vector(1, 0), vector(0, 1)])
    w = weighting(J @ J.T, torch.ones(2))
    turned = vector(1, 0) + (float(w[1]) - 1) * vector(0, 1)
    assert w[0] == pytest.approx(float(w[1]))  # by symmetry each row gets as much of the other
    assert float(turned[1] / turned.norm()) == pytest.approx(0.5)


def test_what_cannot_be():
    for name, options, words in (
        ("fairgrad", {"alpha": 0}, "alpha is 0, must be a number above 0"),
        ("fairgrad", {"scaling": "mean"}, "scaling is 'mean'"),
        ("getmtl", {"eps": -1}, "eps is -1"),
        ("gradvac", {"beta": 2}, "beta is 2"),
        ("gradvac", {"lean": True}, "lean saves nothing"),
    ):
        with pytest.raises(UserError, match=words):
            method(name, options)


def test_the_rows():
    for name, part in (("fairgrad", "FairGrad"), ("getmtl", "GetMTL"), ("gradvac", "GradVac")):
        assert METHODS[name].axes == {"combiner": part}
        assert str(METHODS[name].passes) == "F + (K + 1) / 2 B"
