"""What a backbone runs without gradients or outside of autocast, it runs so with exits too."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from offramp import UserError, attach

SIZE = (3, 8, 8)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def begin(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.a(self.begin(x)).relu()).mean((2, 3)))


class NoGrad(Backbone):
    def begin(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.stem(x)


class Inference(Backbone):
    def begin(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            x = self.stem(x)
        return x.clone()


class Disabled(Backbone):
    def begin(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(False):
            return self.stem(x)


class Switched(Backbone):
    """By statements, which nothing undoes where the forward is left between them."""

    def begin(self, x: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        x = self.stem(x)
        torch.set_grad_enabled(True)
        return x


@torch.no_grad()
def frozen(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)


class Decorated(Backbone):
    def begin(self, x: Tensor) -> Tensor:
        return frozen(self.stem, x)


class InTraining(Backbone):
    def begin(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.training):
            return self.stem(x)


class Standardised(Backbone):
    """By statistics that gradients do not see."""

    def begin(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        with torch.no_grad():
            mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
        return (x - mean) / std


class FullPrecision(Backbone):
    def begin(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.stem(x)


class HalfPrecision(Backbone):
    def begin(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.stem(x)
        return x.float()


class ElsewhereFullPrecision(Backbone):
    """On a device that need not be there where the backbone is attached."""

    def begin(self, x: Tensor) -> Tensor:
        with torch.autocast("cuda", enabled=False):
            return self.stem(x)


WITHOUT_GRADIENTS = [NoGrad, Inference, Disabled, Switched, Decorated, InTraining]
IN_OTHER_PRECISION = [FullPrecision, HalfPrecision]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    assert torch.is_grad_enabled()


def gradients(logits: Tensor, backbone: nn.Module) -> dict[str, Tensor | None]:
    parameters = dict(backbone.named_parameters())
    found = torch.autograd.grad(logits.square().sum(), [*parameters.values()], allow_unused=True)
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("at", [["a"], ["stem"], ["stem", "b"]], ids="-".join)
@pytest.mark.parametrize("build", [*WITHOUT_GRADIENTS, Standardised, *IN_OTHER_PRECISION])
def test_gradients_of_the_last_exit_are_the_backbones(build, at):
    backbone = build()
    twin = copy.deepcopy(backbone)
    net = attach(backbone, at, input_size=SIZE)
    x = torch.randn(3, *SIZE)
    whole, logits = twin(x), net(x)
    assert torch.equal(logits[-1], whole)
    expected = gradients(whole, twin)
    for name, gradient in gradients(logits[-1], backbone).items():
        if expected[name] is None:
            assert gradient is None, name
        else:
            torch.testing.assert_close(gradient, expected[name], msg=name)
    assert (expected["stem.weight"] is None) == (build in WITHOUT_GRADIENTS)


@pytest.mark.parametrize("at", [["a"], ["stem", "b"]], ids="-".join)
@pytest.mark.parametrize("build", WITHOUT_GRADIENTS)
def test_a_frozen_stem_is_trained_by_no_exit(build, at):
    net = attach(build(), at, input_size=SIZE)
    sum(logits.square().sum() for logits in net(torch.randn(3, *SIZE))).backward()
    assert {name.partition("stem")[1] for name, p in net.named_parameters() if p.grad is None} == {"stem"}
    assert sum(p.grad is None for p in net.parameters()) == 2


@pytest.mark.parametrize("build", [*IN_OTHER_PRECISION, NoGrad])
def test_under_autocast_each_region_keeps_its_precision(build):
    backbone = build()
    twin = copy.deepcopy(backbone)
    net = attach(backbone, ["a"], input_size=SIZE)
    x = torch.randn(3, *SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x)[-1], twin(x))


def test_a_region_of_a_device_that_is_not_there_is_kept():
    kinds = [type(attach(b(), ["a"], input_size=SIZE).stages[0]) for b in (Backbone, ElsewhereFullPrecision)]
    assert [issubclass(kind, torch.fx.GraphModule) for kind in kinds] == [True, False]


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_attached_where_no_gradients_are_made(outer):
    backbone = NoGrad()
    with outer():
        net = attach(backbone, ["a"], input_size=SIZE)
    sum(logits.sum() for logits in net(torch.randn(2, *SIZE))).backward()
    assert backbone.stem.weight.grad is None
    assert backbone.a.weight.grad is not None


class Standard(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("build", "line"),
    [
        *((build, "gives 'stem.weight' a gradient split, and none whole; .*") for build in WITHOUT_GRADIENTS),
        (Standardised, "gives 'stem.weight' another gradient split than whole; .*"),
        (FullPrecision, "gives other logits split than whole under autocast; .*"),
        (HalfPrecision, "stage 1 is the first that differs: 'stem' returns another Tensor"),
    ],
)
def test_stages_that_lose_a_region_are_refused(build, line):
    stem = ["stem", Standard()] if build is Standardised else ["stem"]
    tail = [torch.relu, "b", nn.AdaptiveAvgPool2d(1), nn.Flatten(), "fc"]
    with pytest.raises(UserError, match=line + ("no_grad, autocast" if line.endswith("*") else "")):
        attach(build(), stages=[[*stem, "a"], tail], input_size=SIZE)


class Begin(nn.Module):
    """What the remedy says: a stage that runs the stem as the forward does."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.stem, self.begin = backbone.stem, type(backbone).begin

    def forward(self, x: Tensor) -> Tensor:
        return self.begin(self, x)


@pytest.mark.parametrize("build", [*WITHOUT_GRADIENTS, Standardised, FullPrecision, HalfPrecision])
def test_stages_that_keep_a_region_are_taken(build):
    backbone = build()
    tail = [torch.relu, "b", nn.AdaptiveAvgPool2d(1), nn.Flatten(), "fc"]
    assert attach(backbone, stages=[[Begin(backbone), "a"], tail], input_size=SIZE).num_exits == 2


class Moving(nn.Module):
    """Subtracts a moving average of what it gets, which it moves first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.lerp_(x.detach().mean((0, 2, 3))[:, None, None], 0.1)
        return x - self.average


class Nearest(nn.Module):
    """A code book, moved towards what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.movedim(1, -1).reshape(-1, 4)
        nearest = torch.cdist(flat, self.codes).argmin(1)
        quantised = self.codes[nearest].view(*x.movedim(1, -1).shape).movedim(-1, 1)
        if self.training:
            self.codes.index_copy_(0, nearest[:1], flat[:1].detach())
        return x + (quantised - x).detach()


def plain(*inner: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Sequential(*inner),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


MOVING = {
    "spectral_norm": lambda: plain(spectral_norm(nn.Conv2d(4, 4, 3))),
    "parametrised": lambda: plain(parametrizations.spectral_norm(nn.Conv2d(4, 4, 3))),
    "average": lambda: plain(Moving()),
    "codes": lambda: plain(Nearest()),
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("build", MOVING.values(), ids=MOVING)
def test_buffers_that_move_in_training_are_no_difference(build, whole):
    """Three steps in train mode, then one in eval mode, beside a twin of the backbone."""
    backbone = build()
    twin = copy.deepcopy(backbone)
    cut = {"at": ["1"]} if whole else {"stages": [["0", "1"], ["2", "3", "4", "5"]]}
    net = attach(backbone, **cut, input_size=SIZE)
    assert all(map(torch.equal, backbone.state_dict().values(), twin.state_dict().values()))
    for training in (True, True, True, False):
        x = torch.randn(2, *SIZE)
        assert torch.equal(net.train(training)(x)[-1], twin.train(training)(x))


class Counting(Backbone):
    """Moves a buffer in the forward that is run anew by each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def begin(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.stem(x)


class Warming(Backbone):
    """Reads how often it ran before."""

    steps = 0

    def begin(self, x: Tensor) -> Tensor:
        self.steps += 1
        return self.stem(x) * min(1.0, self.steps / 4)


def test_a_buffer_that_each_stage_would_write_to_is_refused():
    line = "writes something else to its buffer 'seen' split than whole; move what its forward draws, counts"
    with pytest.raises(UserError, match=line):
        attach(Counting(), ["a"], input_size=SIZE)


def test_what_a_forward_counts_goes_on():
    backbone = Warming()
    twin = copy.deepcopy(backbone)
    net = attach(backbone, ["a"], input_size=SIZE)
    for _ in range(4):
        x = torch.randn(2, *SIZE)
        assert torch.equal(net(x)[-1], twin(x))
