"""``at="auto:K"`` puts exits at equal shares of the FLOPs, where one Tensor crosses."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from torch import Tensor, nn

import offramp
from offramp import UserError, attach
from offramp.nets.attaching import _auto

CLASSES = 5


class Conv(nn.Sequential):
    """A convolution, 9 * 16 multiply-accumulates a pixel, that keeps the size, norm and ReLU."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())


class Chain(nn.Module):
    """N equal convolutions."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Conv() for _ in range(length)))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(4, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.blocks(x)))


class Residual(nn.Module):
    """Skips over its first two convolutions, and one from the second to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (Conv() for _ in range(5))
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.a(x)
        x = self.b(stem).relu() + stem
        y = self.c(x)
        return self.fc((self.e(self.d(y)) + y).mean((2, 3)))


class Halves(nn.Module):
    """A module returns one half of a split, the other half goes around the next."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.first, self.b, self.c, self.d = Conv(), nn.Identity(), Conv(2), Conv(6), Conv()
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.a(x).chunk(2, 1)
        x = self.b(self.first(left))
        return self.fc(self.d(self.c(torch.cat([x, right], 1))).mean((2, 3)))


class ReadsInputAgain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (Conv() for _ in range(4))
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.d(self.c(self.b(self.a(x)) + x)).mean((2, 3)))


class Twice(nn.Module):
    """One convolution runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.fc = Conv(), Conv(), Conv(), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c(self.b(self.a(self.a(x)))).mean((2, 3)))


class InPlace(nn.Module):
    """What the first convolution returns is written to behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x.mul_(2.0).relu_()
        return self.fc(self.c(self.b(x)).mean((2, 3)))


class Branches(nn.Module):
    """Python decides by sizes, which torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Conv() for _ in range(4))
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < 2:
            raise ValueError
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


class Masked(nn.Module):
    """Token ids, and a mask of them that every layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Embedding(9, 8), nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        mask = (ids > 0).unsqueeze(-1).float()
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x) * mask
        return self.fc(x.sum(1))


SIZE = {"input_size": (4, 6, 6)}


def exits(backbone: nn.Module, at: str, **options: object) -> tuple[str, ...]:
    return attach(backbone, at, **(options or SIZE)).exits_after


def test_places_are_the_nearest_of_all_choices():
    draw = random.Random(0)
    for _ in range(50):
        shares = sorted(draw.random() ** draw.choice([0.3, 1, 3]) for _ in range(draw.randint(3, 8)))
        k = draw.randint(2, len(shares) + 1)

        def distance(places, shares=shares, k=k):
            return sum(abs(shares[p] - (j + 1) / k) for j, p in enumerate(places))

        best = min(itertools.combinations(range(len(shares)), k - 1), key=distance)
        assert distance(_auto._nearest(shares, k)) == pytest.approx(distance(best), abs=1e-12)


@pytest.mark.parametrize(("length", "at", "places"), [(3, "auto:3", (0, 1)), (8, "auto:4", (1, 3, 5))])
def test_equal_layers_are_shared_equally(length, at, places):
    assert exits(Chain(length), at) == tuple(f"blocks.{place}" for place in places)


@pytest.mark.parametrize(
    ("build", "at", "options", "found"),
    [
        (Residual, "auto:3", SIZE, ("a", "c")),
        (Residual, "auto:2", SIZE, ("c",)),
        (Halves, "auto:3", SIZE, ("a", "c")),
        (ReadsInputAgain, "auto:2", SIZE, ("c",)),
        (Twice, "auto:2", SIZE, ("b",)),
        (InPlace, "auto:3", SIZE, ("a", "b")),
        (Branches, "auto:4", SIZE, ("blocks.0", "blocks.1", "blocks.2")),
        (Masked, "auto:3", {"example": torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]]), "pool": "mean"},
         ("blocks.0", "blocks.1")),
    ],
)  # fmt: skip
def test_one_tensor_crosses(build, at, options, found):
    assert exits(build(), at, **options) == found


def test_the_way_there_is_taken_for_the_outermost_module_and_the_last():
    """Behind a convolution all of conv, norm, ReLU, pooling and dropout have the same FLOPs before them."""
    backbone = nn.Sequential(
        nn.Sequential(Conv(), nn.MaxPool2d(2)),
        nn.Dropout(),
        Conv(),
        Conv(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 9),
        nn.ReLU(),
        nn.Linear(9, CLASSES),
    )
    assert exits(backbone, "auto:4") == ("1", "2", "3")  # and not the pooled or flattened map


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("build", [lambda: Chain(4), Branches])
def test_the_backbone_stays_as_it_was(build, frozen, capsys):
    backbone = build().eval().requires_grad_(not frozen)
    with torch.no_grad():
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        state = torch.get_rng_state()
        x = torch.randn(2, 4, 6, 6)
        torch.set_rng_state(state)
        net = attach(backbone, "auto:4", input_size=(4, 6, 6))
        torch.set_rng_state(state)
        assert torch.equal(net(x)[-1], backbone(x))
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert all(p.requires_grad is not frozen and p.grad is None for p in backbone.parameters())
    assert not any(module._forward_hooks for module in backbone.modules())
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["exits after blocks.0, blocks.1, blocks.2 (25%, 50%, 75% of the FLOPs), and at the end"]
    assert "exits after blocks.0, blocks.1, blocks.2\n" in str(net)
    assert len(net.heads) == 4


@pytest.mark.parametrize(
    ("build", "at", "line"),
    [
        (lambda: Chain(4), "auto:5", r"Chain has clean cuts for 4 exits.*asks for more; give at='auto:4'"),
        (lambda: Chain(1), "auto:2", r"Chain has no clean cut.*at=\[\.\.\.\].*stages=\[\.\.\.\]"),
        (lambda: Chain(4), "auto:1", r"at='auto:1' names no place for an exit.*at='auto:4' for four exits"),
        (lambda: Chain(4), "auto", r"at='auto' names no place for an exit.*at='auto:4' for four exits"),
        (lambda: Chain(4), "blocks.1", r"at='blocks.1' names no place for an exit.*at=\['layer1'\]"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(build, at, line):
    with pytest.raises(UserError, match=line) as refusal:
        attach(build(), at, **SIZE)
    assert "\n" not in str(refusal.value)


def test_unknown_flops_are_refused():
    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft2(x).real

    backbone = nn.Sequential(
        Conv(), Fourier(), Conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    with pytest.raises(
        UserError, match=r"FLOPs of Sequential are not known.*no formula for.*fft.*at=\[\.\.\.\]"
    ):
        attach(backbone, "auto:2", **SIZE)


def test_a_backbone_without_gradients_is_refused():
    with torch.inference_mode():
        backbone = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    with pytest.raises(UserError, match=r"Sequential does not run with gradients.*at=\[\.\.\.\]") as refusal:
        attach(backbone, "auto:2", input_size=(4,))
    assert "\n" not in str(refusal.value)
    assert attach(backbone, ["0"], input_size=(4,)).exits_after == ("0",)  # as the line says


def test_the_record_of_a_run_says_where(tmp_path):
    recipe = offramp.Recipe(epochs=1, train_limit=40, test_limit=20, batch_size=20)

    def net(at):
        backbone = nn.Sequential(
            Conv(3), Conv(), Conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
        )
        return attach(backbone, at)

    run = offramp.fit(net("auto:3"), "digits", recipe=recipe, out=tmp_path / "run", quiet=True)
    places = run.record["net"]["exits_after"]
    assert places == ["0", "1"]
    opened = offramp.Run.open(tmp_path / "run", net(places))
    assert opened.result == run.result
    with pytest.raises(UserError, match=r"another net: .*exits_after was \['0', '1'\], is \['0', '2'\]"):
        offramp.fit(net(["0", "2"]), "digits", recipe=recipe, out=tmp_path / "run", resume=True, quiet=True)
