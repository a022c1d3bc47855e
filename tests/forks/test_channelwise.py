"""Operations between a fork and the layer that reads it: dead channels stay dead, gradients right."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from handing import detached, handed
from torch import Tensor, nn

from offramp import UserError
from offramp.forks.feature import Feature, cut_of

MASK = [1, 0, 0, 1, 1]
LIVE = ((0, 1), (3, 5))


class Joining(nn.Module):
    """A block that joins and adds what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(x) + x, self.conv(x), x], dim=1)


ELEMENTWISE = {
    "ReLU": nn.ReLU(),
    "ReLU in place": nn.Sequential(nn.LeakyReLU(), nn.ReLU(inplace=True)),
    "ReLU6": nn.ReLU6(),
    "LeakyReLU": nn.LeakyReLU(),
    "ELU": nn.ELU(),
    "GELU": nn.GELU(),
    "SiLU": nn.SiLU(),
    "Hardswish": nn.Hardswish(),
    "Sigmoid": nn.Sigmoid(),
    "Dropout": nn.Dropout(0.0),
    "Identity": nn.Identity(),
}
MAPS = {
    "MaxPool2d": nn.MaxPool2d(2),
    "AvgPool2d": nn.AvgPool2d(2),
    "AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d(3),
    "AdaptiveMaxPool2d": nn.AdaptiveMaxPool2d(2),
    "global": nn.AdaptiveAvgPool2d((1, 1)),
    "ZeroPad2d": nn.ZeroPad2d(1),
    "Upsample": nn.Upsample(scale_factor=2),
    "clone": lambda x: x.clone().contiguous(),
}
SERIES = {"MaxPool1d": nn.MaxPool1d(2), "AvgPool1d": nn.AvgPool1d(2), "global 1d": nn.AdaptiveAvgPool1d(1)}
VOLUMES = {"MaxPool3d": nn.MaxPool3d(2), "AvgPool3d": nn.AvgPool3d(2), "global 3d": nn.AdaptiveAvgPool3d(1)}
CASES = [
    *((name, op, (2, 5, 4, 4), 1) for name, op in {**ELEMENTWISE, **MAPS}.items()),
    *((f"{name} of tokens", op, (2, 4, 5), 2) for name, op in ELEMENTWISE.items()),
    *((name, op, (2, 5, 4), 1) for name, op in SERIES.items()),
    *((name, op, (2, 5, 4, 4, 4), 1) for name, op in VOLUMES.items()),
]


def compare(op, shape, axis):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours, theirs = op(handed(x, MASK, axis)), op(detached(x, MASK, axis))
    assert torch.equal(ours, theirs)
    up = torch.randn_like(theirs)
    (got,), (expected,) = (torch.autograd.grad(y, x, up, retain_graph=True) for y in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)
    return ours


@pytest.mark.parametrize(("op", "shape", "axis"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_dead_channels_stay_dead(op, shape, axis):
    cut = cut_of(compare(op, shape, axis))
    assert cut is not None
    assert (cut.live.runs, cut.axis) == (LIVE, axis)


FLATTENING = {
    "Flatten": nn.Flatten(),
    "torch.flatten": lambda x: torch.flatten(x, 1),
    "view": lambda x: x.view(x.size(0), -1),
    "reshape": lambda x: x.reshape(2, -1),
    "after pooling": nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
    "mean": lambda x: x.mean((2, 3)),
    "mean of relu": lambda x: torch.mean(F.relu(x), dim=[-1, -2]),
}


@pytest.mark.parametrize("op", FLATTENING.values(), ids=FLATTENING)
def test_flattening_repeats_each_channel(op):
    x = torch.randn(2, 5, 2, 3, dtype=torch.float64, requires_grad=True)
    y, expected = op(handed(x, MASK)), op(detached(x, MASK))
    assert torch.equal(y, expected)
    each = y.shape[1] // 5
    cut = cut_of(y)
    assert cut.live.runs == tuple((a * each, b * each) for a, b in LIVE)
    layer = nn.Linear(y.shape[1], 3).double()
    (got,), (want,) = (torch.autograd.grad(layer(z).square().sum(), x) for z in (y, expected))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)


def test_a_mean_over_tokens_is_read_as_a_cut():
    x = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    layer = nn.Linear(5, 3).double()
    y = handed(x, MASK, axis=2).mean(1)
    assert (cut_of(y).live.runs, cut_of(y).axis) == (LIVE, 1)
    (got,) = torch.autograd.grad(layer(y).square().sum(), x)
    (want,) = torch.autograd.grad(layer(detached(x, MASK, 2).mean(1)).square().sum(), x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)


def test_concatenation_and_addition():
    y = compare(Joining().double(), (2, 5, 3, 3), 1)
    assert cut_of(y).live.runs == ((0, 1), (3, 11), (13, 15))


NOT_PASSING = {
    "batch norm, whose own parameters need the gradient": nn.BatchNorm2d(5).double(),
    "layer norm": nn.LayerNorm([5, 4, 4]).double(),
    "grouped convolution": nn.Conv2d(5, 5, 3, groups=5).double(),
    "softmax over the channels": nn.Softmax(1),
    "product with a gate": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "concatenation along the height": lambda x: torch.cat([x, x], 2),
    "padding with channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)),
    "mean over the channels": lambda x: x.mean(1),
    "transposition": lambda x: x.transpose(1, 2),
    "chunks": lambda x: torch.cat(x.chunk(2, 1), 1),
    "sum with another tensor": lambda x: x + torch.ones_like(x),
    "broadcast sum": lambda x: x + x.mean((2, 3), keepdim=True),
    "pooling that mixes channels": lambda x: F.max_pool3d(x[:, None], 3, 1, 1)[:, 0],
    "max pooling of a map without batch": lambda x: F.max_pool2d(x[0], 2),
}


@pytest.mark.parametrize("op", NOT_PASSING.values(), ids=NOT_PASSING)
def test_what_may_revive_a_channel_returns_an_ordinary_tensor(op):
    assert cut_of(compare(op, (2, 5, 4, 4), 1)) is None


@pytest.mark.parametrize("pool", [nn.MaxPool1d(3, 1, 1), nn.AvgPool1d(3, 1, 1)], ids=["max", "average"])
def test_pooling_over_the_channels_of_tokens_is_not_mistaken(pool):
    assert cut_of(compare(pool, (2, 4, 5), 2)) is None


WRITES = {
    "add_": lambda h, y: h.add_(y),
    "mul_": lambda h, y: h.mul_(y),
    "copy_": lambda h, y: h.copy_(y),
    "a view": lambda h, y: h[:, :3].mul_(y[:, :3]),
    "index_copy_": lambda h, y: h.index_copy_(1, torch.tensor([1, 2]), y[:, 1:3]),
    "setitem": lambda h, y: h.__setitem__((slice(None), 1), y[:, 1]),
    "augmented": lambda h, y: h.__iadd__(y),
    "out=": lambda h, y: torch.Tensor.copy_(h.view_as(h), y),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_revives_the_channels_of_what_an_operation_made(write):
    """The sum of a shortcut, written in place, then read by a convolution."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    proj, conv = nn.Conv2d(5, 5, 1).double(), nn.Conv2d(5, 2, 3).double()

    def run(feature: Tensor) -> tuple[Tensor, ...]:
        h = F.avg_pool2d(feature, 1)
        write(h, proj(feature))
        return torch.autograd.grad(conv(h).square().sum(), [x, *proj.parameters(), *conv.parameters()])

    for got, expected in zip(run(handed(x, MASK)), run(detached(x, MASK)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_to_the_feature_itself_is_refused_in_a_line(name):
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    feature = handed(x, MASK)
    y = torch.ones(2, 5, 4, 4, dtype=torch.float64)
    with pytest.raises(UserError, match=r"overwrites the feature of exit 1") as error:
        WRITES[name](feature, y)
    assert "\n" not in str(error.value)
    assert torch.equal(feature, x)


VIEWS = {
    "slice": lambda x: x[:, :2],
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "chunk": lambda x: x.chunk(2, 1)[0],
    "unbind": lambda x: next(iter(x)),
    "view of a view": lambda x: x.flatten(2).transpose(1, 2),
    "flattened": lambda x: x.flatten(1),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_write_through_a_view_of_the_feature_is_refused_in_a_line(view):
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    feature = handed(x, MASK)
    with pytest.raises(UserError, match=r"overwrites the feature of exit 1.*inplace=False") as error:
        view(feature).mul_(2)
    assert "\n" not in str(error.value)
    assert torch.equal(feature, x)


def test_results_of_other_operations_are_ordinary_tensors():
    x = torch.randn(2, 5, 4, 4, requires_grad=True)
    feature = handed(x, MASK)
    assert type(feature) is Feature
    for made in (feature.exp(), feature.detach(), feature.sum(), feature[0].exp(), F.relu(feature)[0]):
        assert type(made) is Tensor
