"""The solvers against closed forms, conditions that only a solution meets, trying everything, and TorchJD."""

import warnings

import pytest
import torch
from gradient_rows import FAMILIES, projection_by_trying, rows, shortest_by_trying

from offramp.methods.combiners.cagrad import cagrad_weights
from offramp.methods.combiners.imtl import imtl_weights
from offramp.methods.combiners.mgda import mgda_weights
from offramp.methods.combiners.nash_mtl import NashMTL, nash_weights, nash_weights_cccp
from offramp.methods.combiners.solvers import SolverFailure
from offramp.methods.combiners.upgrad import upgrad_weights

SIZES = (2, 3, 5, 7)
CASES = [(family, m) for family in FAMILIES for m in SIZES]
INDEPENDENT = [(family, m) for family, m in CASES if family != "dependent"]


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def progress(J, d):
    """Cosines of the direction with the rows."""
    return J @ d / (J.norm(dim=1) * d.norm())


@pytest.mark.parametrize(("family", "m"), CASES)
@pytest.mark.parametrize("seed", range(5))
def test_mgda_meets_the_condition_of_the_shortest_vector(family, m, seed):
    J = rows(family, m, seed)
    w = mgda_weights(J @ J.T)
    d = w @ J / m
    assert w.min() >= 0
    assert torch.isclose(w.sum(), vector(m).squeeze())
    slack = J @ d - d @ d  # d.g_k >= |d|^2, equality on the support
    scale = J.norm(dim=1) * d.norm()
    assert (slack / scale).min() > -1e-9
    assert (w * slack / scale).abs().max() < 1e-8


@pytest.mark.parametrize("family", FAMILIES)
def test_mgda_is_the_best_of_all_supports(family):
    for seed in range(5):
        J = rows(family, 5, seed)
        expected = shortest_by_trying(J)
        assert torch.allclose(mgda_weights(J @ J.T) @ J / 5, expected, atol=1e-7 * expected.norm(), rtol=0)


def test_mgda_of_two_rows_in_closed_form():
    for a, b in (((1, 0), (0, 1)), ((1, 0), (-3, 1)), ((1, 0), (5, 1)), ((2, 1), (1, 1))):
        g, h = vector(*a), vector(*b)
        first = ((h - g) @ h / (g - h).square().sum()).clamp(0, 1)
        w = mgda_weights(torch.stack([g, h]) @ torch.stack([g, h]).T)
        assert torch.allclose(w, 2 * torch.stack([first, 1 - first]))


def test_mgda_is_shorter_than_frank_wolfes():
    from torchjd.aggregation import MGDAWeighting

    J = rows("of very different norms", 7)
    ours, theirs = mgda_weights(J @ J.T) / 7 @ J, MGDAWeighting()(J @ J.T) @ J
    assert ours.norm() <= theirs.norm()
    J = rows("random", 2)
    assert torch.allclose(mgda_weights(J @ J.T) / 2 @ J, MGDAWeighting()(J @ J.T) @ J, rtol=1e-6)


@pytest.mark.parametrize(("family", "m"), CASES)
@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
def test_cagrad_has_no_gap_between_primal_and_dual(family, m, c):
    for seed in range(3):
        J = rows(family, m, seed)
        d = cagrad_weights(J @ J.T, c) @ J * (1 + c**2) / m
        g0 = J.mean(0)
        assert (d - g0).norm() <= c * g0.norm() * (1 + 1e-8)  # feasible
        worst = (J @ d).min()
        # every point of the simplex bounds the best possible worst progress from above (Eq 4)
        bounds = []
        weights = cagrad_weights(J @ J.T, c) * (1 + c**2) / m - 1 / m
        for w in (weights.clamp_min(0), torch.ones(m, dtype=J.dtype)):
            gw = w / w.sum() @ J
            bounds.append(gw @ g0 + c * g0.norm() * gw.norm())
        assert worst <= min(bounds) + 1e-9 * J.norm() * g0.norm()
        assert torch.isclose(worst, bounds[0], rtol=1e-6, atol=1e-7 * J.norm(dim=1).min() * g0.norm())


def test_cagrad_of_two_rows_in_closed_form():
    """By a search over the only degree of freedom."""
    J, c = torch.stack([vector(1, 0.2), vector(-2, 1)]), 0.4
    g0, w = J.mean(0), torch.linspace(0, 1, 200001, dtype=torch.float64)
    gw = torch.stack([w, 1 - w], 1) @ J
    best = gw[(gw @ g0 + c * g0.norm() * gw.norm(dim=1)).argmin()]
    d = cagrad_weights(J @ J.T, c) @ J * (1 + c**2) / 2
    assert torch.allclose(d, g0 + c * g0.norm() * best / best.norm(), atol=1e-5)


def test_cagrad_where_rows_balance_takes_the_nearest_direction_that_opposes_none():
    J = torch.stack([vector(1.2, 0, 0), vector(-1, 0, 0), vector(0, 1, 0)])
    d = cagrad_weights(J @ J.T, 0.4) @ J * 1.16 / 3
    assert torch.allclose(d, vector(0, 1 / 3, 0), atol=1e-9)  # g_0 without its first component


def test_cagrad_where_rows_balance_but_the_ball_is_too_small():
    J = torch.stack([vector(1, 0.5), vector(-1, 0.5), vector(0, -0.2)])
    d = cagrad_weights(J @ J.T, 0.3) @ J * 1.09 / 3
    g0 = J.mean(0)
    assert torch.allclose(d, 0.7 * g0)  # straight towards the row that g_0 opposes


def test_cagrad_at_the_ends():
    J = rows("random", 4)
    assert torch.equal(cagrad_weights(J @ J.T, 0.0), torch.ones(4, dtype=torch.float64))
    opposite = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert (cagrad_weights(opposite, 0.4) @ opposite).norm() < 1e-12


@pytest.mark.parametrize(("family", "m"), INDEPENDENT)
@pytest.mark.parametrize("solver", [nash_weights, nash_weights_cccp])
def test_nash_solves_its_equation(family, m, solver):
    for seed in range(3):
        J = rows(family, m, seed)
        G = J @ J.T
        w = solver(G)
        assert w.min() > 0
        residual = w * (G @ w / G.norm()) - 1
        assert residual.abs().max() < (1e-10 if solver is nash_weights else 1e-2)
        assert torch.isclose((w @ J).square().sum(), m * G.norm(), rtol=1e-2)


@pytest.mark.parametrize(("family", "m"), [("random", 3), ("alike", 7), ("conflicting", 5)])
def test_both_nash_solvers_find_one_direction(family, m):
    J = rows(family, m)
    a, b = (solver(J @ J.T) @ J for solver in (nash_weights, nash_weights_cccp))
    assert torch.allclose(a, b, rtol=0, atol=1e-4 * a.norm())


def test_nash_in_closed_form():
    """Orthogonal rows: w_k = 1 / |g_k|, times the root of the Gramian's norm."""
    G = torch.diag(vector(4, 9, 0.25))
    for solver in (nash_weights, nash_weights_cccp):
        assert torch.allclose(solver(G), G.norm().sqrt() / vector(2, 3, 0.5), rtol=1e-4)


def test_nash_does_not_care_where_it_starts():
    G = rows("conflicting", 5) @ rows("conflicting", 5).T
    for start in (vector(1, 1e3, 1e-3, 1, 5), vector(1e6, 1e6, 1e6, 1e6, 1e6)):
        assert torch.allclose(nash_weights(G, start), nash_weights(G), rtol=1e-8)


def test_nash_minimises_the_sum_of_squares_minus_logarithms():
    G = rows("random", 4) @ rows("random", 4).T
    w, unit = nash_weights(G), G / G.norm()

    def height(w):
        return 0.5 * w @ unit @ w - w.log().sum()

    for seed in range(50):
        near = w * (1 + 0.1 * (torch.rand(4, generator=torch.Generator().manual_seed(seed)) - 0.5)).double()
        assert height(near) >= height(w)


def test_nash_is_clipped_and_never_lengthened():
    J = rows("conflicting", 4)
    G = J @ J.T
    free = nash_weights(G)
    length = float((free @ J).norm())
    for most, factor in ((2 * length, 1.0), (0.0, 1.0), (0.25 * length, 0.25)):
        found = NashMTL(max_norm=most).weighting()(G, torch.ones(4, dtype=torch.float64))
        torch.testing.assert_close(found, factor * free)


@pytest.mark.parametrize(("family", "m"), CASES)
def test_upgrad_opposes_no_row_and_projects_each(family, m):
    J = rows(family, m)
    d = upgrad_weights(J @ J.T) @ J
    assert progress(J, d).min() > -1e-8
    if m <= 5:
        expected = sum(projection_by_trying(J, g) for g in J)
        assert torch.allclose(d, expected, rtol=0, atol=1e-6 * J.norm(dim=1).max())


def test_upgrad_leaves_rows_without_conflict_alone():
    J = rows("alike", 5).abs()
    assert torch.equal(upgrad_weights(J @ J.T), torch.ones(5, dtype=torch.float64))


def test_upgrad_of_two_rows_is_pcgrad():
    from torchjd.aggregation import PCGradWeighting

    for seed in range(5):
        J = rows("conflicting", 2, seed)
        assert torch.allclose(upgrad_weights(J @ J.T), PCGradWeighting()(J @ J.T))


@pytest.mark.parametrize(("family", "m"), INDEPENDENT)
def test_imtl_projections_are_equal_and_positive(family, m):
    for seed in range(5):
        J = rows(family, m, seed)
        w = imtl_weights(J @ J.T, 10.0)
        projections = J @ (w @ J) / J.norm(dim=1)
        assert projections.min() > 0
        assert torch.allclose(projections, projections.mean().expand(m), rtol=1e-6)
        assert w.abs().max() <= 10 * (1 + 1e-12)


def test_imtl_is_torchjds_where_that_descends():
    from torchjd.aggregation import IMTLGWeighting

    turned = 0
    for seed in range(60):
        J = rows("alike, of very different norms", 5, seed)
        theirs = 5 * IMTLGWeighting()(J @ J.T)
        ours = imtl_weights(J @ J.T, 1e9)
        ascends = (J @ (theirs @ J)).min() < 0
        turned += int(ascends)
        assert torch.allclose(ours, -theirs if ascends else theirs, rtol=1e-5)
    assert 0 < turned < 60  # both happen


def test_imtl_fails_on_opposite_rows():
    G = torch.tensor([[1.0, -2.0], [-2.0, 4.0]], dtype=torch.float64)
    with pytest.raises(SolverFailure, match="opposite"):
        imtl_weights(G, 10.0)


@pytest.mark.parametrize("solver", [nash_weights, nash_weights_cccp])
def test_nash_fails_where_rows_balance(solver):
    J = torch.stack([vector(1, 0), vector(-1, 1), vector(0, -1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SolverFailure, match="balance"):
            solver(J @ J.T)


SOLVERS = {
    "mgda": mgda_weights,
    "cagrad": lambda G: cagrad_weights(G, 0.4),
    "nash": nash_weights,
    "nash cccp": nash_weights_cccp,
    "upgrad": upgrad_weights,
    "imtl": lambda G: imtl_weights(G, 10.0),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_exits_have_no_order(name):
    J, order = rows("conflicting", 5), torch.tensor([3, 0, 4, 1, 2])
    P = J[order]
    assert torch.allclose(SOLVERS[name](P @ P.T), SOLVERS[name](J @ J.T)[order], rtol=1e-4)


@pytest.mark.parametrize("name", SOLVERS)
def test_weights_have_no_unit(name):
    J = rows("conflicting", 5)
    expected = SOLVERS[name](J @ J.T)
    for unit in (1e-12, 1e9):
        assert torch.allclose(SOLVERS[name](unit * J @ J.T), expected, rtol=1e-6)
