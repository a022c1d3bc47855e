import numpy as np
import pytest
import torch
from steps import exit_batch
from torch import nn

from offramp.analysis import (
    Interference,
    OutputInterference,
    conflict,
    filter_conflicts,
    filter_sums,
    measuring,
    pooled,
    task_gradients,
)
from offramp.analysis._correlation import pearson, standardised
from offramp.analysis.filter_conflict import FilterConflict
from offramp.nets import MultiExitNet

SHAPES = {"conv": (3, 2, 3, 3), "norm": (3,), "linear": (4, 3), "alpha": ()}


def draw(names=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(SHAPES[n], generator=generator, dtype=torch.float64) for n in names}


def filters(tensor, unit):
    """A parameter's filters as flat arrays, one by one."""
    array = tensor.numpy()
    if array.ndim == 0:
        return [array.reshape(1)]
    if array.ndim == 1:
        return [array[i : i + 1] for i in range(len(array))]
    if unit == "out_channel":
        return [row.ravel() for row in array]
    return [np.ravel(kernel) for row in array for kernel in row]


@pytest.mark.parametrize("unit", ["out_channel", "kernel"])
@pytest.mark.parametrize("name", SHAPES)
def test_filters(name, unit):
    values = draw()[name]
    expected = [part.sum() for part in filters(values, unit)]
    np.testing.assert_allclose(filter_sums(values, unit).flatten().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("unit", ["out_channel", "kernel"])
def test_conflict_is_eq_2(unit):
    mine, rest = draw(seed=1), draw(seed=2)
    norm = sum(v @ v for n in SHAPES for v in filters(mine[n], unit))
    expected = sum(
        max(0.0, -(a @ b) / norm)
        for n in SHAPES
        for a, b in zip(filters(mine[n], unit), filters(rest[n], unit), strict=True)
    )
    assert expected > 0
    assert conflict(mine, rest, unit) == pytest.approx(expected, rel=1e-12)
    assert conflict(mine, mine, unit) == 0
    assert conflict({n: v * 0 for n, v in mine.items()}, rest, unit) == 0


@pytest.mark.parametrize("unit", ["out_channel", "kernel"])
def test_conflict_per_filter_is_a_loop_over_ordered_pairs(unit):
    gradients = [draw(seed=3), draw(["conv", "linear"], seed=4), draw(["norm", "linear"], seed=5), {}]
    norms = [sum(v @ v for g in of.values() for v in filters(g, unit)) for of in gradients]
    found = filter_conflicts(gradients, unit)
    assert set(found) == {"conv", "norm", "linear"}  # one output alone has alpha
    for name, values in found.items():
        expected = np.zeros(values.numel())
        for a, one in enumerate(gradients):
            for b, other in enumerate(gradients):
                if a != b and name in one and name in other:
                    pairs = zip(filters(one[name], unit), filters(other[name], unit), strict=True)
                    for c, (x, y) in enumerate(pairs):
                        expected[c] += max(0.0, -(x @ y) * (1 / norms[a] + 1 / norms[b]))
        np.testing.assert_allclose(values.flatten().numpy(), expected, rtol=1e-12, atol=1e-15)


def test_conflict_per_filter_is_averaged_over_batches(conv_net):
    net, images, targets = conv_net
    batches = [(images[:3], targets[:3]), (images[3:], targets[3:])]
    observer, each = FilterConflict(), []
    with measuring(net):
        for batch in batches:
            found = task_gradients(net, exit_batch(*batch))
            observer.add(found)
            each.append(filter_conflicts(found.gradients))
    for name, values in observer.mean().items():
        torch.testing.assert_close(values, (each[0][name] + each[1][name]) / 2, rtol=1e-12, atol=0)


class Quadratics:
    """A net that is one shared matrix W, read by two fixed linear heads; f_k is quadratic in W."""

    def __init__(self, rows=2, seed=0):
        rng = np.random.default_rng(seed)
        self.w, self.heads = rng.normal(size=(rows, 3)), [rng.normal(size=(2, rows)) for _ in range(2)]
        self.x, self.goals = rng.normal(size=(5, 3)), 5 * rng.normal(size=(2, 5, 2))
        shared, *heads = (nn.Linear(i, o, bias=False).double() for i, o in ((3, rows), (rows, 2), (rows, 2)))
        for layer, values in zip((shared, *heads), (self.w, *self.heads), strict=True):
            layer.weight.data = torch.from_numpy(values.copy())
        self.net = MultiExitNet([shared, nn.Identity()], heads, input_size=(3,)).requires_grad_(False)
        shared.weight.requires_grad_()
        self.weight = shared.weight

    def objective(self, step):
        return [
            (z - torch.from_numpy(g)).square().sum() for z, g in zip(step.outputs, self.goals, strict=True)
        ]

    def loss(self, k, w):
        return np.square(self.x @ w.T @ self.heads[k].T - self.goals[k]).sum()

    def gradient(self, k):
        return 2 * self.heads[k].T @ (self.x @ self.w.T @ self.heads[k].T - self.goals[k]).T @ self.x

    def measure(self, **settings):
        interference = Interference(self.net, **settings)
        images, targets = torch.from_numpy(self.x), torch.zeros(5, dtype=torch.int64)
        interference.add(task_gradients(self.net, exit_batch(images, targets), objective=self.objective))
        return interference.outputs()


@pytest.mark.parametrize("step", [1e-3, 3e-3])
def test_gain_is_eq_3_and_the_weights_come_back(step):
    problem = Quadratics()
    before = problem.weight.detach().clone()
    for k, found in enumerate(problem.measure(step=step)):
        mine, rest = problem.gradient(k), problem.gradient(1 - k)
        alone = problem.loss(k, problem.w - step * mine) - problem.loss(k, problem.w)
        together = problem.loss(k, problem.w - step * (mine + rest)) - problem.loss(k, problem.w)
        assert alone < 0
        assert found.gain == (pytest.approx((together - alone) / alone, rel=1e-9),)
        opposed = sum(max(0.0, -(a @ b)) for a, b in zip(mine, rest, strict=True))
        assert found.conflict == (pytest.approx(opposed / np.square(mine).sum(), rel=1e-12),)
        assert found.left_out == 0
    assert torch.equal(problem.weight, before)


def test_with_one_filter_conflict_is_the_gain_that_is_lost():
    """To first order G = g . rest / ||g||^2, and with one filter C = max(0, -G): where it harms, r < 0."""
    pairs = [p for seed in range(12) for p in Quadratics(rows=1, seed=seed).measure(step=1e-8)]
    losses = [(c, g) for one in pairs for c, g in zip(one.conflict, one.gain, strict=True)]
    assert len(losses) == 24
    assert any(c > 0 for c, _ in losses) and any(c == 0 for c, _ in losses)
    for c, g in losses:
        assert c == pytest.approx(max(0.0, -g), rel=1e-3, abs=1e-6)
    assert pearson(*zip(*losses, strict=True)) < -0.3


def test_a_step_too_far_has_no_gain():
    assert [(one.left_out, one.gain) for one in Quadratics().measure(step=1e3)] == [(1, ()), (1, ())]


def test_every_weight_of_a_real_net_comes_back(conv_net, state):
    net, images, targets = conv_net
    before = state(net)
    interference = Interference(net, step=0.1)
    with measuring(net):
        interference.add(task_gradients(net, exit_batch(images, targets)))
    tensors, modes = state(net)
    assert modes == before[1]
    assert all(torch.equal(tensors[name], value) for name, value in before[0].items())
    assert [one.left_out + len(one.gain) for one in interference.outputs()] == [1, 1, 1]


def test_correlation_is_numpy_s():
    x, y = np.random.default_rng(0).normal(size=(2, 40))
    y = y - 0.7 * x
    assert pearson(x.tolist(), y.tolist()) == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-12)
    np.testing.assert_allclose(standardised(x.tolist()), (x - x.mean()) / x.std(), rtol=1e-12)
    assert pearson([1, 2], [2, 1]) is None
    assert pearson([1, 1, 1], [1, 2, 3]) is None
    assert standardised([2, 2]) == (0, 0)


def test_pooled_correlation_is_over_standard_scores():
    x, y = np.random.default_rng(1).normal(size=(2, 2, 30)) * [[[1], [50]]] + [[[0], [9]]]
    outputs = [OutputInterference(tuple(a), tuple(b), 0) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    dead = OutputInterference((0.0,) * 5, (1.0, 2.0, 3.0, 4.0, 5.0), 0)
    scores = [((v - v.mean(1, keepdims=True)) / v.std(1, keepdims=True)).ravel() for v in (x, y)]
    assert pooled([*outputs, dead]) == pytest.approx(np.corrcoef(*scores)[0, 1], rel=1e-12)
    assert dead.r is None
    assert pooled([dead]) is None
