"""Folding against the module as it was, in double precision."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree as pytree

from offramp.exits._folding import close, fold


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            if part.affine:
                nn.init.normal_(part.weight)[0] = 0  # of either sign, or nothing
                nn.init.normal_(part.bias)
    return module.double().eval()


def images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def conv(a: int = 3, b: int = 4, **how: object) -> nn.Conv2d:
    return nn.Conv2d(a, b, 3, padding=1, **how)


class Residual(nn.Module):
    """A convolution whose output is read twice, by its norm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = conv(3, 3), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x):
        y = self.conv(x)
        return self.act(self.norm(y)) + y


class Functional(nn.Module):
    """A norm called in another order than its place says, and an activation twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.act = nn.BatchNorm2d(4), conv(), nn.ReLU()

    def forward(self, x):
        return self.act(self.act(self.norm(self.conv(x))) - 0.5)


class Twice(nn.Module):
    """One convolution that runs twice, with a norm of its own each time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = conv(3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.b(self.conv(self.a(self.conv(x))))


class Kept(nn.Module):
    """An output that is returned as well as read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = conv(), nn.ReLU()

    def forward(self, x):
        y = self.conv(x)
        return y, self.act(y)


class Viewed(nn.Module):
    """A view of an output that lives on beside the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = conv(), nn.ReLU()

    def forward(self, x):
        y = self.conv(x)
        view = y.flatten(1)
        return self.act(y).sum((2, 3)) + view[:, :4]


class Scaled(nn.Conv2d):
    """A convolution that is more than its weights."""

    def forward(self, x):
        return F.conv2d(x, 2 * self.weight, self.bias, padding=1)


def hooked() -> nn.Module:
    layer = conv()
    layer.register_forward_hook(lambda module, args, output: output * 3)
    return nn.Sequential(layer, nn.BatchNorm2d(4), nn.ReLU())


def shared() -> nn.Module:
    first, second = conv(3, 3), conv(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, nn.BatchNorm2d(3), second, nn.ReLU())


class Unseen(nn.Module):
    """What the norm reads is read by numpy too, which nobody sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + torch.from_numpy(np.tanh(y.numpy()))


class NormReadTwice(nn.Module):
    """A norm behind an activation, which is pooled and goes past the pooling too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.norm, self.pool = conv(), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2)

    def forward(self, x):
        y = self.norm(self.act(self.conv(x)))
        return self.pool(y), y


def closed() -> nn.Module:
    """A channel that is minus infinity before the ReLU and has no scale behind it: 0, not their product."""
    layer = conv()
    with torch.no_grad():
        layer.bias[0] = -torch.inf
    return nn.Sequential(layer, nn.ReLU(), nn.BatchNorm2d(4))


# module, norms left, activations in place
CASES = {
    "sequential": (lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU()), 0, 1),
    "without bias": (lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(4), nn.SiLU()), 0, 1),
    "grouped": (lambda: nn.Sequential(conv(3, 6, groups=3), nn.BatchNorm2d(6)), 0, 0),
    "reflecting": (lambda: nn.Sequential(conv(padding_mode="reflect"), nn.BatchNorm2d(4)), 0, 0),
    "activation first": (lambda: nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(4)), 0, 0),
    "not affine": (lambda: nn.Sequential(conv(bias=False), nn.ReLU(), nn.BatchNorm2d(4, affine=False)), 0, 0),
    "activation first, pooled": (
        lambda: nn.Sequential(conv(3, 6, groups=3), nn.ReLU(), nn.BatchNorm2d(6), nn.MaxPool2d(2)),
        *(0, 0),
    ),
    "pooled over a border": (
        lambda: nn.Sequential(
            conv(), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), conv(4, 3)
        ),
        *(0, 0),
    ),
    "norm read twice": (NormReadTwice, 0, 0),
    "other activation first": (lambda: nn.Sequential(conv(), nn.SiLU(), nn.BatchNorm2d(4)), 0, 1),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 5), nn.BatchNorm1d(5)), 0, 0),
    "without statistics": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()),
        1,
        1,
    ),
    "input alone": (lambda: nn.Sequential(nn.ReLU(), conv()), 0, 0),
    "residual": (Residual, 1, 1),
    "functional": (Functional, 0, 0),
    "twice": (Twice, 2, 0),
    "kept": (Kept, 0, 0),
    "viewed": (Viewed, 0, 0),
    "subclass": (lambda: nn.Sequential(Scaled(3, 4, 3), nn.BatchNorm2d(4)), 1, 0),
    "hooked": (hooked, 1, 1),
    "shared": (shared, 0, 1),
    "unseen": (Unseen, 1, 0),
    "closed": (closed, 1, 0),
}


def build(name: str) -> nn.Module:
    make = CASES[name][0]
    if name == "without statistics":
        return make().double().eval()
    return randomised(make())


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_folded_module_gives_what_it_gave(name):
    module, (_, norms, in_place) = build(name), CASES[name]
    original = copy.deepcopy(module)
    x = images()
    fold(module, x)
    assert torch.equal(x, images())
    torch.testing.assert_close(module(images(5)), original(images(5)), rtol=1e-9, atol=1e-9)
    left = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(left) == norms
    assert sum(getattr(m, "inplace", False) for m in module.modules()) == in_place


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize(
    ("least", "pool", "moved"),
    [
        (0.0, {}, True),  # a channel without weight: the shift alone
        (-0.5, {}, False),  # a maximum of what falls is none of what it fell from
        (0.0, {"return_indices": True}, False),
    ],
)
@torch.no_grad()
def test_a_norm_that_cannot_be_folded_goes_behind_max_pooling(least, pool, moved, eager):
    norm, layers = nn.BatchNorm2d(4), [conv(), nn.SiLU()]
    module = randomised(nn.Sequential(*layers, norm, nn.MaxPool2d(3, 2, padding=1, **pool)))
    nn.init.uniform_(norm.weight, 0.5, 2)[0] = least
    original = copy.deepcopy(module)
    fold(module, images(), eager=eager)
    for ours, theirs in zip(
        pytree.tree_leaves(module(images(5))), pytree.tree_leaves(original(images(5))), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert (type(module[2]) is nn.Identity) == moved
    assert (norm in module.modules()) == (not eager)


class Indices(nn.Module):
    """A pooling behind a norm whose places are read too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.norm = conv(), nn.ReLU(), nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x):
        y, places = self.pool(self.norm(self.act(self.conv(x))))
        return y + places


def norm_hooked() -> nn.Module:
    norm = nn.BatchNorm2d(4)
    norm.register_forward_pre_hook(lambda module, args: None)  # which looks at what the norm reads
    return nn.Sequential(conv(), norm)


# what cannot be folded as others are -> norms left, where a convolution and its norm stand before it
BESIDE = {
    "indices": (lambda: Indices(), 0),
    "norm hooked": (norm_hooked, 1),
    "norm of vectors behind an activation": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 5), nn.ReLU(), nn.BatchNorm1d(5)),
        1,
    ),
    "norm of other channels than a linear layer's": (
        lambda: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm2d(3)),
        0,
    ),
}


@pytest.mark.parametrize("name", BESIDE)
@torch.no_grad()
def test_what_cannot_be_folded_leaves_the_rest_folded(name):
    make, norms = BESIDE[name]
    module = randomised(nn.Sequential(conv(3, 3), nn.BatchNorm2d(3), make()))
    original = copy.deepcopy(module)
    fold(module, images())
    torch.testing.assert_close(module(images(5)), original(images(5)), rtol=1e-9, atol=1e-9)
    assert sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()) == norms


@torch.no_grad()
def test_a_module_that_folding_would_change_is_as_it_was():
    rest = [nn.ReLU(inplace=True), conv(4, 4), nn.ReLU(), nn.BatchNorm2d(4), conv(4, 4), nn.ReLU()]
    module = randomised(nn.Sequential(Unseen(), conv(4, 4), *rest)).float()
    before, state = [*module.modules()], copy.deepcopy(module.state_dict())
    fold(module, images().float())
    assert [*module.modules()] == before
    assert [m.inplace for m in before if isinstance(m, nn.ReLU)] == [True, False, False]
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


@torch.no_grad()
def test_a_narrow_norm_is_not_folded_past_an_activation():
    """It would multiply what is rounded to 8 binary digits, and lose some of them."""
    module = randomised(nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(4))).bfloat16()
    fold(module, images().bfloat16())
    assert type(module[2]) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ("dtype", "same", "other"),
    [(torch.float64, 1e-10, 1e-8), (torch.float32, 5e-4, 2e-3), (torch.bfloat16, 0.02, 0.1)],
)
def test_how_far_apart_two_outputs_may_be(dtype, same, other):
    x = torch.tensor([4.0, -8.0], dtype=dtype)
    assert close(x, x + 8 * same) and not close(x, x + 8 * other)


@torch.no_grad()
def test_the_modules_of_a_user_stay_as_they_are():
    module = build("sequential")
    state = copy.deepcopy(module.state_dict())
    fold(copy.deepcopy(module), images())
    after = module.state_dict()
    assert [*state] == [*after] and all(torch.equal(state[name], after[name]) for name in state)


PACKED = {
    "plain": lambda: conv(),
    "strided": lambda: nn.Conv2d(3, 4, 3, stride=2, bias=False),
    "grouped": lambda: conv(3, 6, groups=3),
    "dilated": lambda: nn.Conv2d(3, 4, 2, dilation=2, padding=(1, 2)),
    "twice": lambda: nn.Sequential(*[conv(3, 3)] * 2),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PACKED)
@torch.no_grad()
def test_packed_convolutions_give_what_they_gave(name, dtype):
    torch.manual_seed(0)
    module = nn.Sequential(PACKED[name]()).to(dtype).eval()
    original = copy.deepcopy(module)
    fold(module, images().to(dtype))
    for n in (1, 5):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = images(n).to(dtype).contiguous(memory_format=memory_format)
            # a product is rounded once in each of them, in bfloat16 to 8 digits
            torch.testing.assert_close(module(x), original(x), rtol=2**-6, atol=2**-6)
    if dtype == torch.float32:
        assert not any(type(m) is nn.Conv2d for m in module.modules())


@pytest.mark.parametrize("size", [(6, 6), (5, 6), (4, 7), (2, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_pairwise_max_pooling(size, memory_format):
    module = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d((1, 2), stride=(1, 2)))
    original = copy.deepcopy(module)
    x = torch.randn(3, 4, *(4 * s for s in size)).contiguous(memory_format=memory_format)
    fold(module, x)
    assert type(module[0]) is not nn.MaxPool2d and type(module[1]) is nn.MaxPool2d
    x = torch.randn(3, 4, *size).contiguous(memory_format=memory_format)
    x[0, 0, 1, 1] = torch.nan
    assert torch.equal(module[0](x).nan_to_num(7.0), original[0](x).nan_to_num(7.0))


@pytest.mark.parametrize("size", [(5, 4), (1, 1), (3, 7)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_average_pooling_over_whole_maps(size, memory_format):
    module = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.AdaptiveAvgPool2d((1, None)))
    fold(module, torch.randn(2, 4, 6, 6).contiguous(memory_format=memory_format))
    assert [type(layer) is nn.AdaptiveAvgPool2d for layer in module] == [False, True]
    x = torch.randn(3, 4, *size, dtype=torch.float64).contiguous(memory_format=memory_format)
    pooled = module[0](x)
    assert pooled.shape == (3, 4, 1, 1)
    # sums of at most 21 numbers below 5 in any order
    torch.testing.assert_close(pooled[..., 0, 0], torch.einsum("nchw->nc", x) / (size[0] * size[1]))
    single = module[0](x[0])  # without a batch, as torch's layer takes it
    torch.testing.assert_close(single, pooled[0])


@torch.no_grad()
def test_a_packed_convolution_reads_what_a_plain_one_reads():
    """A single map; and what an operator before it has narrowed, which it multiplies in its own precision."""
    torch.manual_seed(0)
    module = nn.Sequential(conv()).eval()
    original = copy.deepcopy(module)
    fold(module, images().float())
    assert type(module[0]) is not nn.Conv2d
    x = images().float()
    torch.testing.assert_close(module(x[0]), original(x[0]))
    torch.testing.assert_close(module(x.bfloat16()), original(x.bfloat16().float()))


@torch.no_grad()
def test_what_cannot_be_packed_stays():
    for layer in (conv(padding_mode="reflect"), nn.Conv2d(3, 4, 3, padding="same"), Scaled(3, 4, 3)):
        module = nn.Sequential(layer, conv(4, 4)).eval()
        fold(module, images().float())
        assert module[0] is layer
        assert type(module[1]) is not nn.Conv2d
