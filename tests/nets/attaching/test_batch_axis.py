"""The samples of a batch stay apart up to every exit, or attach says where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from offramp import UserError, attach

STEPS, FEATURES = 5, 6


class Recurrent(nn.LSTM):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


def recurrent(inputs: int, *, batch_first: bool) -> nn.Module:
    return Recurrent(inputs, 8, batch_first=batch_first)


def attention(inputs: int, *, batch_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)
    return layer if inputs == 8 else nn.Sequential(nn.Linear(inputs, 8), layer)


class Sequences(nn.Module):
    """Classifies ``[N, T, C]``; inside, time comes first or the batch does.

    Args:
        layer: Makes the layers.
        batch_first: What the layers are told.
        permuted: Whether they get the time first.
    """

    def __init__(self, layer: Callable[..., nn.Module], batch_first: bool, permuted: bool) -> None:
        super().__init__()
        self.first = layer(FEATURES, batch_first=batch_first)
        self.second = layer(8, batch_first=batch_first)
        self.fc = nn.Linear(8, 4)
        self.permuted = permuted

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.permuted else x
        return self.fc(self.second(self.first(x)).mean(0 if self.permuted else 1))


layers = pytest.mark.parametrize("layer", [recurrent, attention])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@layers
@pytest.mark.parametrize("options", [{}, {"channel_axis": 2}, {"heads": [nn.Linear(8, 4)]}], ids=str)
def test_a_feature_with_time_first_is_refused(layer, options):
    line = (
        r"feature of exit 1 is \[5, 2, 8\] for 2 samples and \[5, 3, 8\] for 3 samples, .*not the batch; "
        r".*batch_first=True.*stages=\[\.\.\.\].*permute it at the end of stage 1"
    )
    with pytest.raises(UserError, match=line):
        attach(
            Sequences(layer, batch_first=False, permuted=True),
            ["first"],
            input_size=(STEPS, FEATURES),
            **options,
        )


@layers
def test_both_remedies_work(layer):
    """Each exit's logits of a sample alone are those that it has in a batch."""
    backbone = Sequences(layer, batch_first=False, permuted=True)

    def swap(x: Tensor) -> Tensor:
        return x.transpose(0, 1)

    def first(x: Tensor) -> Tensor:
        return x.mean(0)

    stages: list[Any] = [[swap, "first", swap], [swap, "second", first, "fc"]]
    own = attach(backbone, stages=stages, input_size=(STEPS, FEATURES), channel_axis=2)
    built = Sequences(layer, batch_first=True, permuted=False)
    named = attach(built, ["first"], input_size=(STEPS, FEATURES), channel_axis=2)
    x = torch.randn(3, STEPS, FEATURES)
    for net in (own.eval(), named.eval()):
        for logits, alone in zip(net(x), net(x[1:2]), strict=True):
            torch.testing.assert_close(logits[1:2], alone)


def test_stages_of_ones_own_are_told_where_to_permute():
    backbone = Sequences(recurrent, batch_first=False, permuted=True)
    stages = [[lambda x: x.transpose(0, 1), "first"], ["second", lambda x: x.mean(0), "fc"]]
    with pytest.raises(
        UserError, match=r"exit 1 is .* not the batch; permute it at the end of stage 1 and ba"
    ):
        attach(backbone, stages=stages, input_size=(STEPS, FEATURES))


@layers
def test_layers_that_take_the_batch_for_time_are_refused(layer):
    with pytest.raises(UserError, match=r"logits of exit 1 for a sample depend on the other.*batch_first"):
        attach(
            Sequences(layer, batch_first=False, permuted=False),
            ["first"],
            input_size=(STEPS, FEATURES),
            channel_axis=2,
        )


class Words(nn.Module):
    """Token ids, of which there are no gradients; a position's vector is the same for all samples."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.places = nn.Parameter(torch.randn(2, 8))
        self.first = attention(8, batch_first=batch_first)
        self.second = attention(8, batch_first=batch_first)
        self.fc = nn.Linear(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places
        return self.fc(self.second(self.first(x)).mean(1))


def test_token_ids():
    """Of as many tokens as there are samples in the first look."""
    ids = torch.randint(20, (1, 2))
    assert attach(Words(batch_first=True), ["first"], example=ids, channel_axis=2).num_exits == 2
    with pytest.raises(UserError, match="logits of exit 2 for a sample depend on the other samples"):
        attach(Words(batch_first=False), ["first"], example=ids, channel_axis=2)


def windows(x: Tensor) -> Tensor:
    """``[N, C, 8, 8]`` -> ``[4 N, C, 4, 4]``, as attention in windows has it."""
    return x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1], 4, 4)


class Windows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(windows(self.a(x)))
        return self.fc(x.mean((2, 3)).view(-1, 4, 4).mean(1))


def test_windows_are_no_samples():
    assert attach(Windows(), ["a"], input_size=(3, 8, 8)).num_exits == 2
    with pytest.raises(UserError, match=r"exit 1 is \[8, 4, 4, 4\] for 2 samples and \[12, 4, 4, 4\] for 3"):
        attach(Windows(), ["b"], input_size=(3, 8, 8))


def normalised(tracked: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4, track_running_stats=tracked),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


def test_norm_layers_without_running_statistics():
    assert attach(normalised(True), ["0"], input_size=(3, 8, 8)).num_exits == 2
    with pytest.raises(UserError, match=r"logits of exit 2 .*track_running_stats=True"):
        attach(normalised(False), ["0"], input_size=(3, 8, 8))


def test_logits_with_the_batch_elsewhere():
    """A backbone that takes the time first takes what attach has for samples as time steps."""
    backbone = Sequences(recurrent, batch_first=True, permuted=True)
    with pytest.raises(UserError, match="not the batch"):
        attach(backbone, ["first"], input_size=(STEPS, FEATURES), channel_axis=2)
