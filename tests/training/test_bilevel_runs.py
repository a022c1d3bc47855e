"""Training with the bilevel loop: compiled, in bf16, with other layers, and what has no second derivative."""

import itertools

import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from torch import nn

from offramp import Recipe, UserError, fit

RECIPE = Recipe(epochs=1, batch_size=8, lr=0.05, augment="none")


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("method", ["dfs+auto-lambda", "hdkd", "wpn"])
def test_a_compiled_net_learns_the_same(method, monkeypatch):
    """The pass that is differentiated twice runs uncompiled; the stand-in for a compiler forbids it."""
    compiled = []

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            assert not torch.is_grad_enabled(), "differentiated twice"
            return grad

    def compile(function):
        compiled.append(function)
        return lambda *a, **k: [Once.apply(z) for z in function(*a, **k)]

    nets = []
    for settings in ({}, {"compile": True}):
        if settings:
            monkeypatch.setattr(torch, "compile", compile)
        recipe = RECIPE.replace(options={"every": 2}, **settings)
        nets.append(fit(tiny_net(dropout=0.0), tiny_data(), method, recipe, quiet=True).net)
    assert len(compiled) == 2
    assert torch.equal(weights(nets[0]), weights(nets[1]))


@pytest.mark.parametrize("method", ["auto-lambda", "hdkd", "wpn"])
def test_bf16_changes_little(method):
    start = weights(tiny_net(dropout=0.0))
    moved = []
    for precision in ("fp32", "bf16"):
        recipe = RECIPE.replace(train_limit=24, precision=precision)
        net = fit(tiny_net(dropout=0.0), tiny_data(train=24), method, recipe, quiet=True).net
        moved.append(weights(net) - start)
    assert (moved[1] - moved[0]).norm() < 0.1 * moved[0].norm()


class Added(nn.Module):
    """A layer, and perhaps a way around it."""

    def __init__(self, layer, around=False):
        super().__init__()
        self.layer, self.around = layer, around

    def forward(self, x):
        return x + self.layer(x) if self.around else self.layer(x)


class Pixels(nn.Module):
    """A layer for sequences, on the pixels of a map."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        out = self.layer(x.flatten(2).transpose(1, 2))
        return (out[0] if isinstance(out, tuple) else out).transpose(1, 2).reshape(x.shape)


class OwnNorm(nn.Module):
    """Keeps a running mean by statements in place, which autograd sees."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        self.mean.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
        return x * (1 + self.mean[:, None, None] ** 2)


@pytest.mark.parametrize(
    "layer",
    [nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.LSTM(4, 4, batch_first=True), OwnNorm()],
)
def test_layers_with_a_second_derivative(layer):
    """Attention is fused otherwise, and saved buffers move while the second batch runs."""
    net = tiny_net()
    net.stages[0].append(layer if isinstance(layer, OwnNorm) else Pixels(layer))
    fit(net, tiny_data(), "auto-lambda", RECIPE, quiet=True)


class Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * grad


class Unmarked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad.detach()


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


@pytest.mark.parametrize(("function", "around"), [(Marked, False), (Marked, True), (Unmarked, False)])
def test_a_layer_without_a_second_derivative_is_refused(function, around, tmp_path):
    """Before anything is written; torch itself would leave out, without a word, what lies before it."""
    for stage, method in itertools.product((0, 1), ("auto-lambda", "wpn")):
        net = tiny_net()
        net.stages[stage].append(Added(Layer(function), around))
        words = f"'{method}' goes back .* a layer of this net has no second derivative"
        with pytest.raises(UserError, match=words):
            fit(net, tiny_data(), method, RECIPE, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
