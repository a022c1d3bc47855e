"""Heads of every kind give what their formulas give, on features of every layout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp import UserError, attach
from offramp.forks import partition, remove

CLASSES, CHANNELS = 5, 6


class Move(nn.Module):
    """Moves an axis."""

    def __init__(self, source: int, to: int) -> None:
        super().__init__()
        self.source, self.to = source, to

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(self.source, self.to)


class Tail(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(CHANNELS, 8, 1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


class Maps(nn.Module):
    """``[N, C, H, W]`` at the cut, or ``[N, H, W, C]``."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.cut = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), Move(1, -1 if last else 1))
        self.back, self.tail = Move(-1 if last else 1, 1), Tail()

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.back(self.cut(x)))


class Tokens(nn.Module):
    """``[N, T, C]`` at the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.block = nn.Linear(3, CHANNELS), nn.Linear(CHANNELS, 8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.cut(x)).mean(1))


class Signal(nn.Module):
    """``[N, C, L]`` at the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.conv = nn.Conv1d(3, CHANNELS, 1), nn.Conv1d(CHANNELS, 8, 1)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(self.cut(x)).mean(2))


class Flat(nn.Sequential):
    """``[N, C]`` at the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.mid, self.fc = nn.Linear(3, CHANNELS), nn.Linear(CHANNELS, 8), nn.Linear(8, CLASSES)


LAYOUTS = {
    "NCHW": (lambda: Maps(last=False), (3, 7, 5), 1),
    "NHWC": (lambda: Maps(last=True), (3, 7, 5), 3),
    "NTC": (Tokens, (4, 3), 2),
    "NCL": (Signal, (3, 9), 1),
    "NC": (Flat, (3,), 1),
}


def separable(x: Tensor, depthwise: nn.Module, pointwise: nn.Module, norm: nn.Module, stride: int) -> Tensor:
    """By the definition: one small convolution for each channel, then a matrix at each place."""
    conv, padding = (F.conv1d, [1, 1]) if x.ndim == 3 else (F.conv2d, [1, 1, 1, 1])
    x = F.pad(x, padding)
    maps = [conv(x[:, c : c + 1], depthwise.weight[c : c + 1], stride=stride) for c in range(x.shape[1])]
    mixed = torch.einsum("oc,nc...->no...", pointwise.weight.flatten(1), torch.cat(maps, 1))
    shape = [1, -1] + [1] * (x.ndim - 2)
    scaled = (mixed - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return F.relu(scaled * norm.weight.view(shape) + norm.bias.view(shape))


def expected(kind: str, pool: str, head: nn.Module, feature: Tensor, axis: int) -> Tensor:
    layers = [m for m in head.modules() if next(m.parameters(recurse=False), None) is not None]
    x = feature.movedim(axis, 1)
    if kind == "sepconv":
        x = separable(separable(x, *layers[:3], stride=2), *layers[3:6], stride=1)
    x = feature[:, 0] if pool == "class" else x.flatten(2).mean(2) if x.ndim > 2 else x
    if kind == "mlp":
        x = F.relu(x @ layers[0].weight.T + layers[0].bias)
    if kind == "norm":
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    return x @ layers[-1].weight.T + layers[-1].bias


FITTING = [(kind, None, layout) for kind in ("linear", "mlp", "norm") for layout in LAYOUTS]
FITTING += [(kind, "class", "NTC") for kind in ("linear", "mlp", "norm")]
FITTING += [("sepconv", None, layout) for layout in ("NCHW", "NHWC", "NCL")]


@pytest.mark.parametrize(("kind", "pool", "layout"), FITTING)
def test_a_head_gives_what_its_formula_gives(kind, pool, layout):
    build, size, axis = LAYOUTS[layout]
    torch.manual_seed(0)
    net = attach(build(), ["cut"], input_size=size, head=kind, pool=pool).double().eval()
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(4, *size, dtype=torch.float64)
    net.input_size = size
    logits = net(x)[0]
    torch.testing.assert_close(
        logits, expected(kind, pool, net.heads[0], net.stages[0](x), axis), rtol=1e-9, atol=1e-9
    )
    assert all(map(torch.equal, partition(net)(x), remove(net)(x)))


def test_a_list_gives_each_exit_its_own():
    backbone = nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)), nn.Linear(3, CLASSES))
    net = attach(backbone, ["0", "1", "2"], input_size=(3,), head=["mlp", "linear", "norm"])
    kinds = [[type(layer).__name__ for layer in head.modules()] for head in net.heads[:-1]]
    assert kinds == [
        ["Sequential", "Linear", "ReLU", "Linear"],
        ["Linear"],
        ["Sequential", "LayerNorm", "Linear"],
    ]


def test_new_layers_have_the_dtype_of_the_feature():
    net = attach(Maps(last=True).double(), ["cut"], input_size=(3, 7, 5), head="sepconv")
    assert {p.dtype for p in net.heads[0].parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("layout", "options", "line"),
    [
        ("NTC", {"head": "sepconv"}, r"the feature of exit 1 is \[2, 4, 6\].*'sepconv'.*give head='norm' or"),
        ("NC", {"head": "sepconv"}, r"the feature of exit 1 is \[2, 6\].*'sepconv'"),
        ("NCHW", {"pool": "class"}, r"exit 1 is \[2, 6, 7, 5\].*pool='class'.*give pool='mean'"),
        ("NHWC", {"pool": "class"}, r"exit 1 is \[2, 7, 5, 6\].*pool='class'"),
        ("NCHW", {"pool": "last"}, r"exit 1 is \[2, 6, 7, 5\].*pool='last'.*give pool='mean'"),
        ("NTC", {"pool": "first"}, r"pool='first' is none.*there are: mean, last, class"),
        ("NCL", {"pool": "class"}, r"exit 1 is \[2, 6, 9\].*pool='class'"),
        ("NCHW", {"head": "linaer"}, r"head='linaer'.*did you mean 'linear'.*linear, mlp, sepconv, norm"),
        ("NCHW", {"head": 3}, r"head=3 is none.*linear, mlp, sepconv, norm"),
        ("NTC", {"pool": ["mean", "class"]}, "pool= has 2 entries for 1 exits before the last"),
        ("NTC", {"head": []}, "head= has 0 entries for 1 exits before the last"),
        ("NTC", {"head": "mlp", "heads": [nn.Identity()]}, "heads= are your own.*leave them out"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(layout, options, line):
    build, size, _ = LAYOUTS[layout]
    with pytest.raises(UserError, match=line) as refusal:
        attach(build(), ["cut"], input_size=size, **options)
    assert "\n" not in str(refusal.value)


def test_a_head_that_writes_over_the_feature_is_refused():
    head = nn.Sequential(
        nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)
    )
    with pytest.raises(UserError, match="head 1 writes over the feature that the next stage reads"):
        attach(Maps(last=False), at=["cut"], heads=[head], input_size=(3, 4, 4))
