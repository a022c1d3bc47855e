"""Layers that read a cut, against the same layer on a tensor detached by hand."""

from __future__ import annotations

import copy
import itertools
from collections import Counter

import numpy
import pytest
import torch
import torch.nn.functional as F
from handing import detached, handed
from nets import batch, small
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from offramp.forks import partition
from offramp.forks._gradient_sum import GradientSum
from offramp.forks._lanes import branch, join
from offramp.nets import MultiExitNet

MASKS = {
    "first": [1, 1, 0, 0, 0],
    "middle": [0, 1, 1, 1, 0],
    "scattered": [1, 0, 1, 0, 1],
    "all": [1, 1, 1, 1, 1],
    "one": [0, 0, 0, 0, 1],
    "none": [0, 0, 0, 0, 0],
}
LAYERS = {
    "conv2d": (nn.Conv2d(5, 4, 3, padding=1), (3, 5, 7, 6), 1),
    "conv2d with stride": (nn.Conv2d(5, 4, 3, stride=2, bias=False), (3, 5, 7, 6), 1),
    "conv2d with dilation": (nn.Conv2d(5, 4, (1, 3), dilation=2, padding=(0, 2)), (3, 5, 7, 6), 1),
    "conv2d, valid": (nn.Conv2d(5, 4, 2, padding="valid"), (3, 5, 7, 6), 1),
    "conv1d": (nn.Conv1d(5, 4, 3, padding=1, stride=2), (3, 5, 7), 1),
    "conv3d": (nn.Conv3d(5, 4, 2, padding=1), (3, 5, 3, 4, 2), 1),
    "linear on vectors": (nn.Linear(5, 4), (3, 5), 1),
    "linear on tokens": (nn.Linear(5, 4, bias=False), (3, 6, 5), 2),
    "linear on maps with channels last": (nn.Linear(5, 4), (3, 2, 3, 5), 3),
}
PLAIN = {  # read as an ordinary Tensor
    "grouped": (nn.Conv2d(5, 5, 3, groups=5), (3, 5, 7, 6), 1),
    "same padding": (nn.Conv2d(5, 4, 3, padding="same"), (3, 5, 7, 6), 1),
    "transposed": (nn.ConvTranspose2d(5, 4, 3), (3, 5, 7, 6), 1),
    "linear along the rows": (nn.Linear(6, 4), (3, 5, 7, 6), 1),
    "conv1d along the channels": (nn.Conv1d(7, 4, 3), (3, 7, 5), 2),
    "matmul": (lambda x: x @ torch.ones(5, 2, dtype=x.dtype), (3, 6, 5), 2),
}


def gradients(layer, x, arguments, up_seed=1):
    y = layer(x)
    up = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(up_seed))
    return y, torch.autograd.grad(y, arguments, up, materialize_grads=True)


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("case", [*LAYERS, *PLAIN])
def test_gradients_of_every_argument(case, mask, split):
    torch.manual_seed(0)
    layer, shape, axis = (LAYERS | PLAIN)[case]
    layer = copy.deepcopy(layer).double() if isinstance(layer, nn.Module) else layer
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    arguments = [x, *(layer.parameters() if isinstance(layer, nn.Module) else ())]
    ours, got = gradients(layer, handed(x, mask, axis, split=split), arguments)
    theirs, expected = gradients(layer, detached(x, mask, axis), arguments)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12 if split else 0)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", LAYERS)
def test_the_gradient_of_dead_channels_is_never_computed(case):
    """Products of a backward pass: all of them for the weight, the live share for the input."""
    layer, shape, axis = LAYERS[case]

    def products(mask):
        x = torch.randn(shape, requires_grad=True)
        y = layer(handed(x, mask, axis))
        with FlopCounterMode(display=False) as counter:
            torch.autograd.grad(y.sum(), [x, layer.weight])
        return counter.get_total_flops()

    assert 10 * products(MASKS["first"]) == 7 * products(MASKS["all"])  # (1 + 2/5) / 2


def test_a_layer_called_by_keyword_or_with_numbers_for_pairs():
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 2, 2, dtype=torch.float64, requires_grad=True)
    for call in (
        lambda x: F.conv2d(input=x, weight=weight, padding=1),
        lambda x: F.conv2d(x, weight, None, 2, (1,), [1, 1]),
        lambda x: F.conv2d(x, weight, None, numpy.int64(2), (numpy.int32(1), 0), [1, numpy.int8(1)]),
        lambda x: F.linear(weight=torch.ones(2, 4, dtype=torch.float64), input=x),
    ):
        _, got = gradients(call, handed(x, MASKS["first"]), [x])
        _, expected = gradients(call, detached(x, MASKS["first"]), [x])
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("impl", ["fused", "split"])
@pytest.mark.parametrize("options", [{}, {"own_to_shared": 1}, {"channels": {1: [0, 2]}}], ids=str)
def test_second_derivatives(options, impl):
    plain = small("vgg7")
    images, labels = batch()

    def second(net: nn.Module) -> tuple[Tensor, ...]:
        parameters = list(net.parameters())
        loss = torch.stack([F.cross_entropy(o, labels) for o in net(images)]).sum()
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), parameters)

    ours = second(partition(copy.deepcopy(plain), impl=impl, **options))
    theirs = second(partition(copy.deepcopy(plain), impl="cat", **options))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert max(float(b.abs().max()) for b in theirs) > 1


def test_gradients_of_several_readers_add_up_with_their_gains():
    generator = torch.Generator().manual_seed(0)
    gains = [torch.tensor([0, 1, 0.5, 0]), torch.tensor([2, 0, 1, 0]), torch.tensor([1, 1, 1, 0])]
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    ups = [torch.randn(2, 4, 3, dtype=torch.float64, generator=generator) for _ in gains]
    gradient_sum = GradientSum.plan([g.tolist() for g in gains], axis=1)
    lanes = zip(branch(x, gradient_sum), gradient_sum.live, strict=True)
    tensors = [join(x.detach(), lane, live, 1) for lane, live in lanes]
    assert all(torch.equal(t, x) for t in tensors)
    for used in itertools.product([True, False], repeat=3):
        expected = sum(
            (u * g[:, None] for u, g, use in zip(ups, gains, used, strict=True) if use), torch.zeros_like(x)
        )
        total = [(t * u).sum() for t, u, use in zip(tensors, ups, used, strict=True) if use]
        (got,) = torch.autograd.grad(sum(total), x, retain_graph=True) if total else (torch.zeros_like(x),)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels_last", [False, True], ids=["default", "channels_last"])
def test_autocast(dtype, channels_last):
    """No further from float64 than the concatenation is under the same autocast, but for rounding noise."""
    exact = small("vgg7")
    images, labels = batch()

    def gradient(impl: str, precision: torch.dtype | None) -> tuple[Tensor, list[torch.dtype]]:
        net = partition(copy.deepcopy(exact), impl=impl)
        x = images
        if precision is not None:
            net, x = net.float(), x.float()
        if channels_last:
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=dtype, enabled=precision is not None):
            outputs = net(x)
        torch.stack([F.cross_entropy(o.double(), labels) for o in outputs]).sum().backward()
        assert all(p.grad.dtype == p.dtype for p in net.parameters())
        return torch.cat([p.grad.flatten().double() for p in net.parameters()]), [o.dtype for o in outputs]

    truth, _ = gradient("cat", None)
    ours, kinds = gradient("fused", dtype)
    theirs, _ = gradient("cat", dtype)
    assert set(kinds) == {dtype}
    assert (ours - truth).norm() <= 1.5 * (theirs - truth).norm() + 1e-3 * truth.norm()


def test_autocast_leaves_float64_alone():
    net, (images, _) = partition(small("vgg7")), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net(images)
    assert {o.dtype for o in outputs} == {torch.float64}


def test_channels_last_features_keep_their_layout():
    """A gradient in another layout than its feature would cost a reorder in every layer below."""
    x = torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last).requires_grad_()
    seen = []
    feature = x * 1
    feature.register_hook(lambda grad: seen.append(grad.is_contiguous(memory_format=torch.channels_last)))
    gradient_sum = GradientSum.plan([[1, 1, 0, 0], [0, 0, 1, 1]], axis=1)
    first, second = branch(feature, gradient_sum)
    value = feature.detach()
    (
        join(value, first, gradient_sum.live[0], 1) * 2 + join(value, second, gradient_sum.live[1], 1)
    ).sum().backward()
    assert seen == [True]
    assert x.grad[0, :, 0, 0].tolist() == [2, 2, 1, 1]


def test_frozen_weights_and_frozen_features():
    net, (images, labels) = partition(small("vgg7")), batch()
    net.stages[2][0].weight.requires_grad_(False)
    for parameter in net.stages[0].parameters():
        parameter.requires_grad_(False)
    torch.stack([F.cross_entropy(o, labels) for o in net(images)]).sum().backward()
    assert net.stages[2][0].weight.grad is None
    assert net.stages[1][0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.stages[0].parameters())


def test_the_forward_pass_runs_the_plain_net_s_operators_and_no_copy():
    net, images = small("vgg7").float(), batch()[0].float()
    views = "detach alias view view_as expand as_strided reshape _reshape_alias flatten squeeze"
    no_work = {f"aten::{name}" for name in f"{views} empty new_empty empty_strided".split()}

    def operators(net: nn.Module) -> Counter[str]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            net(images)
        return Counter(e.name for e in profile.events() if e.name.startswith("aten::"))

    plain, surgical = operators(net), operators(partition(net))
    for name in no_work:
        del plain[name], surgical[name]
    assert surgical == plain
    assert plain["aten::convolution"] == 6


class _Scales(nn.Module):
    """Two scales in, two scales out, as MSDNet's blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(2, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.fine(x[0]), torch.cat([x[1], self.coarse(x[1])], 1)


class _Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 4, 2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.fine(x), self.coarse(x)


class _Coarsest(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(channels, 3, 4), nn.Linear(3, 5)

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return self.linear(self.conv(x[-1]).mean((2, 3)))


def _two_scales() -> MultiExitNet:
    torch.manual_seed(0)
    return MultiExitNet([_Stem(), _Scales()], [_Coarsest(4), _Coarsest(6)]).double()


# Dynamo instantiates every autograd.Function that it traces, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("build", [lambda: small("vgg7"), _two_scales], ids=["vgg7", "scales"])
def test_compiles_as_one_graph(build):
    net, (images, labels) = partition(build()), batch()

    def gradient(call) -> list[Tensor]:
        net.zero_grad()
        torch.stack([F.cross_entropy(o, labels) for o in call(images)]).sum().backward()
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    eager = gradient(net)
    torch._dynamo.reset()
    compiled = gradient(torch.compile(net, fullgraph=True, backend="aot_eager"))
    for a, b in zip(compiled, eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
