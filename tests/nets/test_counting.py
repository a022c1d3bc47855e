import copy

import pytest
import torch
from torch import nn

import offramp
from offramp import UserError
from offramp.nets import MultiExitNet, cost, create


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


def test_a_layer_whose_products_cannot_be_seen_is_named():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(x.flatten(2).mT)[0].mT.unflatten(2, (8, 8))

    with pytest.raises(UserError, match=r"stages\.0\.rnn \(LSTM\).*register_flop_formula"):
        cost(two_exits(Recurrent()))


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
