"""What outputs of a net without stages cost: by hand, and as a net that has that output alone."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

import offramp
from offramp.errors import UserError
from offramp.nets import Net
from offramp.tasks import Boxes, Classification

TRUNK, DEEP, ONE, TWO = 5 * 7, 7 * 7, 7 * 3, 7 * 4


class TwoDepths(Net):
    """The first output reads the first layer, the second one another layer on top; then what nobody reads."""

    outputs: ClassVar = {"class": Classification(), "box": Boxes()}
    input_size = (5,)

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.deep = nn.Linear(5, 7), nn.Linear(7, 7)
        self.heads = nn.ModuleList([nn.Linear(7, 3), nn.Linear(7, 4)])
        self.aside = nn.Linear(7, 100)

    def forward(self, x):
        feature = self.trunk(x).relu()
        deep = self.deep(feature).relu()
        self.aside(deep)
        return [self.heads[0](feature), self.heads[1](deep)]


class InPlace(TwoDepths):
    """The same, with views and writes in place on the way."""

    def forward(self, x):
        feature = torch.empty(len(x), 7)
        feature.copy_(self.trunk(x))
        feature.view(-1).relu_()
        deep = torch.zeros(len(x), 7)
        deep[:, :7] = self.deep(feature)
        self.aside(deep)
        return [self.heads[0](feature.view(len(x), 7)), self.heads[1](deep.relu_())]


class OnePicture(TwoDepths):
    """Both outputs are halves of what one layer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(7, 7)

    def forward(self, x):
        return self.both(self.trunk(x)).split([3, 4], dim=1)


class Chooses(TwoDepths):
    """What runs depends on a value that has been read into Python."""

    def forward(self, x):
        gate = self.aside(self.trunk(x)).mean()
        feature = x.new_ones(len(x), 7) if gate.item() > -1e9 else x.new_zeros(len(x), 7)
        return [self.heads[0](feature), self.heads[1](feature)]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("net", [TwoDepths, InPlace])
def test_an_output_costs_what_it_alone_needs(net, frozen):
    net = net()
    net.trunk.requires_grad_(not frozen)
    found = offramp.cost(net)
    assert [each.flops for each in found.exits] == [TRUNK + ONE, TRUNK + DEEP + TWO]
    assert [each.params for each in found.exits] == [TRUNK + 7 + ONE + 3, TRUNK + 7 + DEEP + 7 + TWO + 4]
    assert found.flops == TRUNK + DEEP + 700 + ONE + TWO
    assert found.unknown == ()


def test_what_outputs_have_in_common_counts_for_each():
    found = offramp.cost(OnePicture())
    assert [each.flops for each in found.exits] == [TRUNK + 49] * 2
    assert found.flops == TRUNK + 49


def test_a_value_read_into_python_is_needed_by_what_follows():
    found = offramp.cost(Chooses())
    assert [each.flops for each in found.exits] == [TRUNK + 700 + ONE, TRUNK + 700 + TWO]


class Pictures(Net):
    """Convolutions, batch norm, ReLU and pooling, one decoder of two layers and one of one."""

    outputs: ClassVar = {"one": Classification(), "two": Classification()}
    input_size = (3, 8, 8)

    def __init__(self, only: int | None = None) -> None:
        super().__init__()
        self.only = only
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
        self.one = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), *pool)
        self.two = nn.Sequential(*pool)
        if only is not None:
            self.outputs = {"only": Classification()}

    def forward(self, x):
        feature = self.trunk(x)
        heads = [self.one, self.two] if self.only is None else [[self.one, self.two][self.only]]
        return [head(feature) for head in heads]


@pytest.mark.parametrize("convention", ["macs", "thop", "op-counter"])
def test_an_output_costs_what_a_net_of_this_output_alone_does(convention):
    found = offramp.cost(Pictures(), convention=convention)
    for k, output in enumerate(found.exits):
        alone = offramp.cost(Pictures(only=k), convention=convention)
        assert output.flops == alone.flops == alone.exits[0].flops
    assert found.flops > max(output.flops for output in found.exits)


def test_the_whole_of_a_net_with_stages():
    net = offramp.nets.vgg7(num_classes=3, width=4)
    found = offramp.cost(net, convention="macs")
    assert found.flops == found.exits[-1].flops  # with all heads
    assert offramp.cost(net, convention="macs-own").flops == found.flops


class Spectrum(TwoDepths):
    def forward(self, x):
        return [self.heads[0](self.trunk(x)), self.heads[1](self.trunk(torch.fft.rfft(x).abs().mean() * x))]


def test_what_cannot_be_counted_is_unknown_and_said():
    found = offramp.cost(Spectrum())
    assert [each.flops for each in found.exits] == [None, None]
    assert found.flops is None and "no formula for aten._fft" in found.unknown[0]


def test_a_net_that_does_not_run_on_its_own_sample():
    net = TwoDepths()
    net.owners = lambda: dict.fromkeys(dict(net.named_parameters()), frozenset({0, 1}))
    net.input_size = (6,)
    found = offramp.cost(net)
    assert found.flops is None and "cannot take one sample of size (6,)" in found.unknown[0]
    with pytest.raises(UserError, match="cannot take one sample"):
        offramp.cost(net, input_size=(4,))


def test_counting_changes_nothing():
    net = Pictures()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    offramp.cost(net)
    assert net.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class Slices(Net):
    """Two layers whose results lie in slices of one buffer, and a head on each slice."""

    outputs: ClassVar = {"one": Classification(), "two": Classification()}
    input_size = (8,)

    def __init__(self, fill) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.heads = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 4)])
        self.fill = fill

    def forward(self, x):
        return [head(part) for head, part in zip(self.heads, self.fill(self, x), strict=True)]


def _rows(net, x):
    out = x.new_zeros(2, len(x), 8)
    out[0] = net.one(x)
    out[1] = net.two(x)
    return out[0], out[1]


def _interleaved(net, x):
    out = x.new_empty(len(x), 8, 2)
    out[..., 0], out[..., 1] = net.one(x), net.two(x)
    out[..., 0] += 1
    out.relu_()
    return out.clone().to(torch.float64).to(x).mul(2).unbind(-1)


def _indexed(net, x):
    out = x.new_zeros(2 * len(x), 8)
    out[torch.arange(len(x))] = net.one(x)
    out.index_copy_(0, torch.arange(len(x), 2 * len(x)), net.two(x))
    return out.chunk(2)


def _masked(net, x):
    out = x.new_zeros(len(x), 16)
    first = torch.arange(16).expand(len(x), 16) < 8
    out.masked_scatter_(first, net.one(x))
    out[~first] = net.two(x).flatten()
    return out.chunk(2, 1)


def _joined(net, x):
    return torch.cat([net.one(x), net.two(x)], -1).relu().chunk(2, -1)


def _stacked(net, x):
    return torch.stack([net.one(x), net.two(x)], 1).add(1).unbind(1)


def _written_anew(net, x):
    out = x.new_zeros(len(x), 8)
    out.copy_(net.one(x))
    first = out + 1
    out.copy_(net.two(x))
    return first, out


def _out(net, x):
    out = x.new_zeros(2, len(x), 8)
    with torch.no_grad():
        torch.mul(net.one(x), 2, out=out[0])
        torch.mul(net.two(x), 2, out=out[1])
    return out


def _moved(net, x):
    out = torch.stack([net.one(x), net.two(x)]).flip(0)
    return out[torch.tensor([1, 0])].index_select(0, torch.tensor([0, 1])).roll(1, 2)


FILLS = [_rows, _interleaved, _indexed, _masked, _joined, _stacked, _written_anew, _out, _moved]


@pytest.mark.parametrize("fill", FILLS)
def test_outputs_in_slices_of_one_buffer_are_counted_alone(fill):
    found = offramp.cost(Slices(fill), convention="macs")
    assert [each.flops for each in found.exits] == [8 * 8 + 8 * 3, 8 * 8 + 8 * 4]
    assert [each.params for each in found.exits] == [72 + 27, 72 + 36]
    assert found.flops == 2 * 64 + 24 + 32 and found.unknown == ()


def _added(net, x):
    out = x.new_zeros(len(x), 8)
    out += net.one(x)
    out.index_put_((torch.arange(len(x)),), net.two(x), accumulate=True)
    return out, out


def test_what_is_added_in_place_keeps_what_was_there():
    found = offramp.cost(Slices(_added), convention="macs")
    assert [each.flops for each in found.exits] == [2 * 64 + 24, 2 * 64 + 32]


def _normalised(net, x):
    return nn.functional.layer_norm(torch.stack([net.one(x), net.two(x)]), (8,)).relu()


def _complex(net, x):
    out = x.new_zeros(len(x), 8, 2)
    out[..., 0], out[..., 1] = net.one(x), net.two(x)
    return torch.view_as_real(torch.view_as_complex(out) * 2).unbind(-1)


def _scattered(net, x):
    out = x.new_zeros(len(x), 16).slice_scatter(net.one(x), 1, 0, 8)
    return out.slice_scatter(net.two(x), 1, 8, 16).chunk(2, 1)


@pytest.mark.parametrize(
    ("fill", "name"),
    [(_normalised, "layer_norm"), (_complex, "complex"), (_scattered, "slice_scatter")],
)
def test_a_part_of_what_blends_different_work_is_unknown_and_said(fill, name):
    found = offramp.cost(Slices(fill), convention="macs")
    assert [each.flops for each in found.exits] == [None, None]
    assert found.flops == 2 * 64 + 24 + 32
    assert len(found.unknown) == 2 and all(name in reason for reason in found.unknown)


class Tokens(Net):
    """A transformer block over a class token and patches; the outputs read one token each."""

    outputs: ClassVar = {"one": Classification(), "two": Classification()}
    input_size = (3, 8)

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Linear(8, 8), nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.norm, self.heads = nn.LayerNorm(8), nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 4)])

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), self.patch(x)], 1)
        x = self.norm(self.block(x))
        return [self.heads[0](x[:, 0]), self.heads[1](x[:, 1])]


def test_tokens_that_attend_to_each_other_cost_the_same_work():
    found = offramp.cost(Tokens(), convention="macs")
    attention = 4 * 8 * 24 + 2 * 4 * 4 * 8 + 4 * 8 * 8
    work = 3 * 8 * 8 + attention + 2 * 4 * 8 * 16
    assert [each.flops for each in found.exits] == [work + 24, work + 32]
    assert found.unknown == ()
