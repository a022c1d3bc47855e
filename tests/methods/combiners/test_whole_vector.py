"""PCGrad and CAGrad as in Meta-GF's package: one vector of all parameters, against slow loops in float64."""

import itertools
import warnings

import pytest
import torch
from jacobian_cases import PLAIN, batch, build, forward, losses_of, plain_loop

from offramp.errors import UserError
from offramp.methods import METHODS, method
from offramp.methods.combiners import cagrad as cagrad_module
from offramp.methods.combiners.cagrad import CAGrad
from offramp.methods.combiners.graddrop import GradDrop
from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.combiners.solvers import SolverFailure

NETS = ["resnet18", "decoders"]


def conflicting(name):
    """A net in float64, a batch, and losses of which two oppose each other: one is counted backwards."""
    net = build(name).double()
    images, targets = batch(name, net)

    def losses(step):
        found = losses_of(step)
        return [-0.7 * found[0], *found[1:]]

    return net, images, targets, losses


def flat_rows(name):
    """The gradients of all losses as plain rows, ``[K, all parameters]``, with zeros where none arrives."""
    net, images, targets, losses = conflicting(name)
    found = plain_loop(net, losses(forward(net, images, targets)))
    named = [(n, p) for n, p in net.named_parameters() if any(n in row for row in found)]
    rows = [torch.cat([row.get(n, torch.zeros_like(p)).flatten() for n, p in named]) for row in found]
    return torch.stack(rows), [n for n, _ in named]


def taken(combiner, name):
    """The direction that the combiner leaves in ``.grad``, flattened."""
    net, images, targets, losses = conflicting(name)
    step = forward(net, images, targets)
    combiner.bind(net, seed=3)(losses(step), step, PLAIN)
    return torch.cat([net.get_parameter(n).grad.flatten() for n in flat_rows(name)[1]])


def projected(rows, orders):
    """Algorithm 1 of PCGrad, row by row, with the order of the others given for each."""
    total = torch.zeros_like(rows[0])
    for i, order in enumerate(orders):
        g = rows[i].clone()
        for j in order:
            if (inner := g @ rows[j]) < 0:
                g -= inner / rows[j].square().sum() * rows[j]
        total += g
    return total


def averse(rows, c):
    """d of CAGrad over 1 + c^2, the dual (Eq 4) solved by looking at ever finer grids over the simplex."""
    g0 = rows.mean(0)
    G, b = rows @ rows.T, rows @ g0
    m, best, width = len(rows), torch.full((len(rows),), 1 / len(rows), dtype=torch.float64), 1.0
    while width > 1e-9:
        axis = torch.linspace(-width, width, 11, dtype=torch.float64)
        free = torch.cartesian_prod(*[axis] * (m - 1)).reshape(-1, m - 1) + best[:-1]
        points = torch.cat([free, 1 - free.sum(1, keepdim=True)], 1)
        points = points[(points >= 0).all(1)]
        values = points @ b + c * g0.norm() * (points @ G * points).sum(1).clamp_min(0).sqrt()
        best, width = points[values.argmin()], width / 2
    gw = best @ rows
    return (g0 + c * g0.norm() / gw.norm() * gw) / (1 + c**2)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_pcgrad_projects_whole_gradients_and_adds_them_up(name, lean):
    rows, _ = flat_rows(name)
    assert (rows @ rows.T).min() < 0
    found = taken(method("pcgrad-meta-gf", {"lean": lean}).combiner, name)
    others = [list(itertools.permutations(set(range(len(rows))) - {i})) for i in range(len(rows))]
    misses = [(projected(rows, orders) - found).norm() for orders in itertools.product(*others)]
    assert min(misses) < 1e-10 * found.norm()  # in one of the orders that can be drawn
    assert (rows.sum(0) - found).norm() > 0.01 * found.norm()


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_cagrad_is_the_mean_and_not_the_sum(name, lean):
    rows, _ = flat_rows(name)
    found = taken(method("cagrad-meta-gf", {"lean": lean}).combiner, name)
    expected = averse(rows, 0.5)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6 * expected.norm())


def test_a_head_is_scaled_as_its_loss_s_row_is():
    net, images, targets, losses = conflicting("decoders")
    alone = plain_loop(net, losses(forward(net, images, targets)))
    step = forward(net, images, targets)
    CAGrad(shared="all").bind(net)(losses(step), step, PLAIN)
    for k in (1, 2):
        scale = net.decoders[k].weight.grad / alone[k][f"decoders.{k}.weight"]
        assert torch.allclose(scale, scale.mean())
        assert abs(scale.mean() - 1) > 1e-3


@pytest.mark.parametrize("combiner", [GradDrop(leak=1.0, shared="all"), CAGrad(c=0, shared="all")])
def test_without_surgery_it_is_the_sum(combiner):
    rows, _ = flat_rows("resnet18")
    assert torch.allclose(taken(combiner, "resnet18"), rows.sum(0), rtol=0, atol=1e-10 * rows.sum(0).norm())


def test_weights_that_are_kept_for_some_steps_weigh_heads_too():
    """With `every` the step is one weighted backward pass, from the weights of the step before."""
    combiner = CAGrad(c=0.5, shared="all", scaling="native", every=3)
    assert torch.allclose(
        taken(combiner, "resnet18"), averse(flat_rows("resnet18")[0], 0.5), rtol=0, atol=1e-6
    )


def test_the_groups_of_all():
    net = build("resnet18")
    (group,) = Jacobian(net, "all").groups
    assert group.owners == tuple(range(net.num_exits))
    assert set(group.parameters) == set(net.parameters())


def test_a_solver_that_fails_at_once_leaves_the_mean(monkeypatch):
    def fails(gramian, c):
        raise SolverFailure("for the test")

    monkeypatch.setattr(cagrad_module, "cagrad_weights", fails)
    rows, _ = flat_rows("decoders")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        found = taken(CAGrad(shared="all", scaling="native"), "decoders")
    assert torch.allclose(found, rows.mean(0))


def test_the_presets_are_the_packages_settings():
    assert METHODS["pcgrad-meta-gf"].options == method("pcgrad", {"shared": "all"}).options
    native = {"c": 0.5, "shared": "all", "scaling": "native"}
    assert METHODS["cagrad-meta-gf"].options == method("cagrad", native).options
    with pytest.raises(UserError, match="scaling is 'mean', must be sum or native"):
        CAGrad(scaling="mean")
