import copy
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import offramp
from offramp import UserError
from offramp.counting import cost
from offramp.nets import MultiExitNet, create


def two_exits(first, channels=4, size=(3, 8, 8), **kwargs):
    """A net whose first stage is under test; everything else is a 1-channel afterthought."""

    def head():
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5, bias=False))

    return MultiExitNet([first, nn.ReLU()], [head(), head()], input_size=size, **kwargs)


HEAD = 4 * 5  # the products of such a head


@pytest.mark.parametrize(
    ("layer", "products"),
    [
        (nn.Conv2d(3, 4, 3), 6 * 6 * 4 * 3 * 9),
        (nn.Conv2d(3, 4, (3, 1), stride=2, dilation=2), 2 * 4 * 4 * 3 * 3),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4)), 64 * (12 + 36)),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2)), 64 * (12 + 4 * 2 * 9)),
        (nn.ConvTranspose2d(3, 4, 2, stride=2), 8 * 8 * 3 * 4 * 4),
    ],
    ids=["plain", "strided", "depthwise", "grouped", "transposed"],
)
def test_products_of_convolutions(layer, products):
    first, second = cost(two_exits(layer), convention="macs-own").exits
    assert first.flops == second.flops == products + HEAD
    assert first.params == second.params == sum(p.numel() for p in layer.parameters()) + HEAD


class Layers(nn.Sequential):
    """A convolution (6912 products), and everything that only some conventions count."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),  # 4x4
            nn.AvgPool2d(2),  # 2x2
            nn.Upsample(scale_factor=2, mode="bilinear"),  # 4x4
        )


@pytest.mark.parametrize(
    ("convention", "stage", "head"),
    [
        ("macs", 6912, 28),
        ("macs-own", 6912, 28),
        ("thop", 6912 + 4 * 256 + 4 * 4 + 11 * 64, 28 + 4),
        ("op-counter", 6912 + 256 + 9 * 64 + 4 * 16, 28 + 7 + 64),
    ],
)
def test_what_each_convention_counts(convention, stage, head):
    def exit_():
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))

    net = MultiExitNet([Layers(), nn.Identity()], [exit_(), exit_()], input_size=(3, 8, 8))
    found = cost(net, convention=convention)
    own = convention in ("thop", "macs-own")
    assert [e.flops for e in found.exits] == [stage + head, stage + (head if own else 2 * head)]
    backbone = 3 * 4 * 9 + 4 + 8
    assert [e.params for e in found.exits] == [backbone + 35, backbone + (35 if own else 70)]
    assert (found.params, found.convention) == (backbone + 70, convention)


def test_products_outside_of_layers_count_too():
    class Mix(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3))

        def forward(self, x):
            return torch.einsum("oc,nchw->nohw", self.weight, x)

    assert cost(two_exits(Mix())).exits[0].flops == 64 * 12 + HEAD


def test_attention_counts():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            tokens = x.flatten(2).mT
            return self.attention(tokens, tokens, tokens, need_weights=False)[0].mT.unflatten(2, (8, 8))

    projections, products = 4 * 64 * 4 * 4, 2 * 64 * 64 * 4
    found = cost(two_exits(Attend(), size=(4, 8, 8)))
    assert found.exits[0].flops == projections + products + HEAD
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


class Recurrent(nn.Module):
    """Reads the pixels one after the other."""

    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(3, 4 // (2 if options.get("bidirectional") else 1), batch_first=True, **options)

    def forward(self, x):
        return self.rnn(x.flatten(2).mT)[0].mT.unflatten(2, (8, 8))


@pytest.mark.parametrize(
    ("kind", "options", "products"),
    [
        (nn.LSTM, {}, 4 * (4 * 3 + 4 * 4)),
        (nn.LSTM, {"num_layers": 2}, 4 * (4 * 3 + 3 * 4 * 4)),
        (nn.LSTM, {"bidirectional": True}, 2 * 4 * (2 * 3 + 2 * 2)),
        (nn.GRU, {}, 3 * (4 * 3 + 4 * 4)),
        (nn.RNN, {}, 4 * 3 + 4 * 4),
    ],
)
def test_recurrent_layers_count(kind, options, products):
    found = cost(two_exits(Recurrent(kind, **options)))
    assert found.exits[0].flops == 64 * products + HEAD
    assert found.unknown == ()


class OnlyAdds(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 4, 8, 8))

    def forward(self, x):
        return x + self.table


class LooksUp(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(9, 8, 8))

    def forward(self, x):
        return x + self.table[torch.arange(4)]


class Normalizes(nn.Module):
    def forward(self, x):
        return nn.functional.normalize(x)


@pytest.mark.parametrize(
    "part", [OnlyAdds(), LooksUp(), Normalizes(), nn.Sequential(nn.PReLU(4), nn.LayerNorm((4, 8, 8)))]
)
def test_what_multiplies_no_matrices_costs_nothing(part):
    found = cost(two_exits(nn.Sequential(nn.Conv2d(3, 4, 1), part)))
    assert found.exits[0].flops == 64 * 12 + HEAD
    assert found.unknown == ()


@pytest.mark.parametrize(
    ("product", "count"),
    [(lambda w, x: w @ x, 4 * 3), (lambda w, x: torch.addmv(x.new_zeros(4), w, x), 4 * 3)],
)
def test_products_of_a_matrix_and_a_vector_count(product, count):
    class Vector(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3))

        def forward(self, x):
            return product(self.weight, x.mean((0, 2, 3))).reshape(1, 4, 1, 1).expand(-1, -1, 8, 8)

    assert cost(two_exits(Vector())).exits[0].flops == count + HEAD


def test_a_scripted_part_counts_as_the_part_itself():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(layers)
    assert cost(two_exits(scripted)) == cost(two_exits(layers))
    closed = cost(two_exits(nn.Sequential(scripted)), convention="thop")  # which counts norm layers too
    assert closed.exits[0].flops is None
    assert "torch.jit" in closed.unknown[0]


@torch.library.custom_op("test_counting::mix", mutates_args=())
def mix(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.einsum("oc,nchw->nohw", weight, x)


class Mixing(nn.Module):
    """Multiplies where torch cannot see it."""

    def __init__(self, how):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.how = how

    def forward(self, x):
        return self.how(x, self.weight)


def by_numpy(x, weight):
    return torch.from_numpy(np.einsum("oc,nchw->nohw", weight.detach().numpy(), x.numpy()))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (mix, r"stages\.1\.0 \(Mixing\).*no formula for test_counting\.mix; .*register_flop_formula"),
        (by_numpy, r"stages\.1\.0 \(Mixing\): .*nothing that torch sees"),
        (lambda x, w: torch.fft.fft2(x).real, r"stages\.1\.0 \(Mixing\): .*_fft"),
    ],
    ids=["own-operator", "numpy", "fft"],
)
def test_what_hides_its_products_makes_the_exits_behind_it_unknown(how, reason):
    net = two_exits(nn.Conv2d(3, 4, 1))
    net.stages[1] = nn.Sequential(Mixing(how))
    found = cost(net)
    assert [e.flops for e in found.exits] == [64 * 12 + HEAD, None]
    assert len(found.unknown) == 1
    assert re.match(reason, found.unknown[0])


def test_a_formula_for_an_operator_of_ones_own_counts():
    def formula(x, weight, **_):
        return 2 * weight[0] * weight[1] * x[0] * x[2] * x[3]

    registry = torch.utils.flop_counter.flop_registry
    before = dict(registry)
    torch.utils.flop_counter.register_flop_formula(torch.ops.test_counting.mix)(formula)
    try:
        found = cost(two_exits(Mixing(mix), size=(4, 8, 8)))
    finally:
        registry.clear()
        registry.update(before)
    assert found.exits[0].flops == 64 * 16 + HEAD


def test_a_scale_without_products_is_no_obstacle():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(4, 1, 1))

        def forward(self, x):
            return self.gamma * x

    found = cost(two_exits(nn.Sequential(nn.Conv2d(3, 4, 1), Scale(), nn.LayerNorm((4, 8, 8)))))
    assert found.exits[0].flops == 64 * 12 + HEAD


def test_shared_parameters_count_once():
    layer = nn.Conv2d(4, 4, 1, bias=False)
    net = two_exits(nn.Sequential(layer, layer), size=(4, 8, 8))
    net.heads[1][2].weight = net.heads[0][2].weight
    found = cost(net, convention="macs")
    assert found.exits[1].params == found.params == 16 + HEAD
    assert found.exits[0].flops == 2 * 64 * 16 + HEAD


def test_the_input_size_can_be_chosen():
    net = create("vgg7", num_classes=3, width=2)
    small, large = (cost(net, (3, side, side), "macs-own").exits[0].flops for side in (32, 64))
    assert small == 32 * 32 * 3 * 2 * 9 + 6
    assert large == 64 * 64 * 3 * 2 * 9 + 6


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 2, 2)])
def test_an_input_that_does_not_fit_is_refused(size):
    with pytest.raises(UserError, match=rf"one sample of size \({size[0]}, {size[1]}, {size[2]}\)"):
        cost(create("vgg7", width=2), size)


def test_an_unknown_convention_is_refused_with_the_list():
    with pytest.raises(UserError, match="'flops'; there are: thop, op-counter, macs, macs-own"):
        cost(create("vgg7", width=2), convention="flops")


def test_the_net_is_left_as_it_was():
    net = create("resnet18", num_classes=3, width=2).train()
    net.stages[1].eval()
    state = copy.deepcopy(net.state_dict())
    modes = [m.training for m in net.modules()]
    random = torch.get_rng_state()
    cost(net)
    assert all(torch.equal(a, state[name]) for name, a in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_the_names_at_the_top():
    assert offramp.cost is cost
    assert offramp.MultiExitNet is MultiExitNet
    assert offramp.nets.create is create
