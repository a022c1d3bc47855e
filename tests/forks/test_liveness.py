"""What the look at the graph finds, on modules whose answer is plain to see."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp import UserError
from offramp.forks import partition
from offramp.forks.liveness import Liveness
from offramp.nets import MultiExitNet

LIVE = torch.tensor([True, False, True, True])


def follow(module: nn.Module, shape: tuple[int, ...] = (2, 4, 6, 6)) -> tuple[Liveness, Tensor, bool]:
    seen = Liveness()
    with torch.no_grad():
        _, live, (seals,) = seen.follow(module, torch.zeros(shape), LIVE)
    return seen, live, bool(seals)


def test_a_convolution_revives_all_channels_and_is_noted():
    conv = nn.Conv2d(4, 3, 1)
    seen, live, sealed = follow(conv)
    assert torch.equal(seen.read[conv], LIVE)
    assert live.tolist() == [True] * 3
    assert sealed


def test_layers_without_parameters_keep_dead_channels_dead():
    conv = nn.Conv2d(4, 3, 1)
    seen, _, sealed = follow(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(), conv))
    assert torch.equal(seen.read[conv], LIVE)
    assert not sealed  # a ReLU cannot be handed a cut


def test_batch_norm_needs_the_gradient_for_its_own_parameters():
    conv = nn.Conv2d(4, 3, 1)
    seen, _, _ = follow(nn.Sequential(nn.BatchNorm2d(4), conv))
    assert seen.read[conv].all()


def test_flatten_repeats_each_channel():
    linear = nn.Linear(4 * 36, 2)
    seen, _, _ = follow(nn.Sequential(nn.Flatten(), linear))
    assert torch.equal(seen.read[linear], LIVE.repeat_interleave(36))


def test_concatenation_and_addition():
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            both = torch.cat([x, self.first(x)], dim=1)
            return torch.cat([F.relu(x) + x, self.third(x + self.second(both))], 1)

    module = Dense()
    seen, live, sealed = follow(module)
    assert torch.equal(seen.read[module.second], torch.cat([LIVE, torch.ones(4, dtype=torch.bool)]))
    assert seen.read[module.third].all()
    assert torch.equal(live, torch.cat([LIVE, torch.ones(1, dtype=torch.bool)]))
    assert not sealed


def test_grouped_convolutions_and_token_layers_are_left_alone():
    grouped, tokens = nn.Conv2d(4, 4, 3, groups=2), nn.Linear(6, 3)
    assert not follow(grouped)[0].read
    assert not follow(tokens, (2, 4, 6))[0].read


def test_what_cannot_be_traced_is_blind():
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if x.sum() >= 0 else self.conv(-x)

    module = Moody()
    seen, live, sealed = follow(module)
    assert module.conv in seen.blind
    assert live.all()
    assert not sealed


class _Twice(nn.Module):
    """Reads the feature and something else through the same convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


class _Moody(nn.Module):
    """Untraceable, and reads the feature through a layer that it shares with the head."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > -1e9 else x


def _head(*first: nn.Module) -> nn.Module:
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def _twice() -> MultiExitNet:
    return MultiExitNet([nn.Conv2d(3, 4, 3), _Twice()], [_head(), _head()], input_size=(3, 6, 6))


def _shared_layer() -> MultiExitNet:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    return MultiExitNet([nn.Conv2d(3, 4, 3), _Moody(conv)], [_head(conv), _head()], input_size=(3, 6, 6))


def _only_layers() -> MultiExitNet:
    return MultiExitNet(
        [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)],
        [_head(nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(16, 3))],
        input_size=(3, 6, 6),
    )


class _Writes(nn.Module):
    """Adds the feature to something, or something to the feature, in place."""

    def __init__(self, to_feature: bool) -> None:
        super().__init__()
        self.conv, self.to_feature = nn.Conv2d(4, 4, 3, padding=1), to_feature

    def forward(self, x: Tensor) -> Tensor:
        y = 2 * self.conv(x)
        if self.to_feature:
            x += y
            return x
        y += x
        return y


def test_only_writing_into_the_feature_is_refused():
    stages = [nn.Conv2d(3, 4, 3), _Writes(to_feature=True)]
    with pytest.raises(UserError, match="stage 2 overwrites the feature that it reads"):
        partition(MultiExitNet(stages, [_head(), _head()], input_size=(3, 6, 6)))
    partition(_adds_the_feature())


def _adds_the_feature() -> MultiExitNet:
    stages = [nn.Conv2d(3, 4, 3), _Writes(to_feature=False)]
    return MultiExitNet(stages, [_head(), _head()], input_size=(3, 6, 6))


class _Mixed(nn.Module):
    """One linear layer on vectors and on tokens, one convolution called by keyword, one behind chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv, self.other = nn.Linear(4, 4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.linear(x.flatten(2).transpose(1, 2)).mean(1) + self.linear(x.mean((2, 3)))
        maps = self.conv(x) + self.conv(input=torch.cat(x.chunk(2, 1), 1))
        return maps + self.other(torch.cat(tensors=[x[:, :2], x[:, 2:]], dim=1)) + tokens[:, :, None, None]


def _mixed() -> MultiExitNet:
    return MultiExitNet([nn.Conv2d(3, 4, 3), _Mixed()], [_head(), _head()], input_size=(3, 6, 6))


def _flat() -> MultiExitNet:
    """A head that flattens whole maps, and a head whose linear layer runs along the rows."""
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), nn.Sequential(nn.Linear(4, 2), nn.Flatten())]
    return MultiExitNet([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)], heads, input_size=(3, 6, 6))


def _rows() -> MultiExitNet:
    heads = [nn.Sequential(nn.Linear(4, 2), nn.Flatten()), nn.Sequential(nn.Flatten(0, 1), nn.Flatten())]
    return MultiExitNet([nn.Conv2d(3, 4, 3), nn.Linear(4, 4)], heads, input_size=(3, 6, 6))


def _hooked() -> MultiExitNet:
    net = _only_layers()
    net.stages[1].register_forward_pre_hook(lambda _, inputs: (inputs[0].reshape(inputs[0].shape),))
    return net


@pytest.mark.parametrize("impl", ["fused", "split"])
@pytest.mark.parametrize(
    "build", [_mixed, _flat, _rows, _hooked, _adds_the_feature, _twice, _shared_layer, _only_layers]
)
def test_odd_nets_get_the_right_gradient_all_the_same(build, impl):
    torch.manual_seed(0)
    plain = build().double()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)

    def gradient(net: nn.Module) -> list[Tensor]:
        torch.stack([(o**2).sum() for o in net(images)]).sum().backward()
        return [p.grad for p in net.parameters()]

    expected = gradient(partition(copy.deepcopy(plain), impl="cat"))
    for a, b in zip(gradient(partition(plain, impl=impl)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)
