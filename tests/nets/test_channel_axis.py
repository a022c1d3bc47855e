"""The axis of a feature's channels is known from the layers around it, or asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from offramp import UserError, attach, cost
from offramp.nets import MultiExitNet


class Do(nn.Module):
    """A function as a layer."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def unknown(x: Tensor) -> Tensor:
    return x.sort(-1).values


class Mixer(nn.Module):
    """Reads tokens across positions alone."""

    def __init__(self) -> None:
        super().__init__()
        self.across = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.across(x.transpose(1, 2)).transpose(1, 2)


def net(size, first, second, **options) -> MultiExitNet:
    """Two stages; the last head tells nothing of the feature between them, nor does the first."""
    head = nn.Sequential(nn.Flatten(), Do(unknown))
    return MultiExitNet([first, second], [head, nn.Flatten()], input_size=size, **options)


MAP, SIGNAL, VOLUME = (3, 4, 4), (3, 16), (3, 4, 4, 4)
SURE = {
    "conv writes": (MAP, nn.Conv2d(3, 4, 1), Do(unknown), 1),
    "conv reads": (MAP, Do(unknown), nn.Conv2d(3, 4, 1), 1),
    "conv in 1-D": (SIGNAL, nn.Sequential(nn.Conv1d(3, 4, 1), nn.ReLU()), nn.Conv1d(4, 4, 1), 1),
    "conv in 3-D": (VOLUME, nn.Conv3d(3, 4, 1), nn.MaxPool3d(2), 1),
    "transposed conv": (MAP, nn.ConvTranspose2d(3, 4, 2), Do(unknown), 1),
    "batch norm": (SIGNAL, nn.BatchNorm1d(3), Do(unknown), 1),
    "channels last": (MAP, Do(channels_last), nn.LayerNorm(3), 3),
    "moved after it was written": (MAP, nn.Sequential(nn.Conv2d(3, 4, 1), Do(channels_last)), Do(unknown), 3),
    "moved before it is read": (MAP, Do(unknown), nn.Sequential(Do(channels_last), nn.LayerNorm(3)), 1),
    "linear reads": (MAP, Do(channels_last), nn.Linear(3, 4), 3),
    "patches": (
        MAP,
        nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(2), Do(lambda x: x.mT)),
        nn.Linear(4, 4),
        2,
    ),
    "tokens": (MAP, nn.Sequential(nn.Flatten(2), Do(lambda x: x.transpose(1, 2))), nn.Linear(3, 4), 2),
    "halves": (
        MAP,
        Do(unknown),
        Do(lambda x: nn.functional.conv2d(x.chunk(3, 1)[0], torch.ones(1, 1, 1, 1))),
        1,
    ),
    "one token": (SIGNAL, Do(unknown), nn.Sequential(Do(lambda x: x[:, 0]), nn.Linear(16, 4)), 2),
    "pooled": (
        MAP,
        Do(unknown),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)),
        1,
    ),
    "vector": ((8,), Do(unknown), Do(unknown), 1),
    "attention": (SIGNAL, Do(unknown), nn.TransformerEncoderLayer(16, 2, 8, batch_first=True), 2),
    "recurrent": (SIGNAL, Do(unknown), nn.LSTM(16, 4, batch_first=True), 2),
}


@pytest.mark.parametrize("case", SURE)
def test_layers_tell(case):
    size, first, second, axis = SURE[case]
    stages = [first, nn.Sequential(second, Do(lambda x: x[0])) if case == "recurrent" else second]
    assert net(size, *stages).channel_axes() == [(axis,)]


UNSURE = {
    "nobody tells": (MAP, Do(unknown), Do(unknown), "no layer tells"),
    "they contradict": (SIGNAL, nn.Conv1d(3, 16, 1), nn.Linear(16, 4), r"axes \[1, 2\]"),
}


@pytest.mark.parametrize("case", UNSURE)
def test_doubt_is_asked_in_one_line(case):
    size, first, second, why = UNSURE[case]
    with pytest.raises(UserError, match=rf"of exit 1, .*{why}.*`channel_axis=`") as caught:
        net(size, first, second).channel_axes()
    assert "\n" not in str(caught.value)
    assert net(size, first, second, channel_axis=-1).channel_axes() == [(len(size),)]
    assert net(size, first, second, channel_axis={1: 1}).channel_axes() == [(1,)]
    with pytest.raises(UserError, match=r"channel_axis=7 is no channel axis of the feature of exit 1.*1 to"):
        net(size, first, second, channel_axis=7).channel_axes()
    with pytest.raises(UserError, match=r"has an entry for exit 3; give entries for exits 1 to 1"):
        net(size, first, second, channel_axis={3: 1}).channel_axes()


def test_mixing_over_tokens_contradicts_what_linear_layers_write():
    with pytest.raises(UserError, match=r"axes \[1, 2\]"):
        net((16, 8), nn.Linear(8, 8), Mixer()).channel_axes()


def test_what_is_said_wins_over_what_layers_tell():
    assert net(MAP, nn.Conv2d(3, 4, 1), Do(unknown), channel_axis=3).channel_axes() == [(3,)]


def test_scales_have_an_axis_each_and_what_has_no_gradient_has_none():
    conv = nn.Conv2d(3, 4, 1)
    first = Do(lambda x: (x.gt(0), x * 2, channels_last(conv(x)), conv(x)))
    first.conv = conv
    built = MultiExitNet(
        [first, Do(lambda xs: xs[3])], [Do(lambda xs: xs[3].flatten(1)), nn.Flatten()], input_size=MAP
    )
    assert built.channel_axes() == [(None, None, 3, 1)]


def test_a_look_leaves_everything_as_it_was():
    built = net(MAP, nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()), nn.Conv2d(4, 4, 1))
    built.train()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    random = torch.get_rng_state()
    built.channel_axes(), built.sample(3), built.owners(), cost(built)
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in built.modules())


def test_samples_repeat_the_rows_of_an_example():
    stages = [nn.Embedding(9, 4), nn.Linear(4, 4)]
    ids = torch.tensor([[1, 2], [3, 4]])
    built = MultiExitNet(stages, [nn.Flatten(), nn.Flatten()], example=ids)
    assert built.sample(3).tolist() == [[1, 2], [3, 4], [1, 2]]
    built.double().example = {"x": torch.ones(1, 2), "ids": ids}
    sample = built.sample(2)
    assert sample["x"].dtype == torch.float64 and sample["ids"].tolist() == ids.tolist()
    built.example = (ids, ids)
    assert [part.tolist() for part in built.sample(1)] == [[[1, 2]], [[1, 2]]]
    built.example = None
    assert built.sample(2).shape == (2, 3, 32, 32) and built.sample(2).dtype == torch.float64


def backbone(low: nn.Module, high: nn.Module, end: nn.Module) -> nn.Sequential:
    built = nn.Sequential()
    for name, module in (("low", low), ("high", high), ("end", end)):
        built.add_module(name, module)
    return built


@pytest.mark.parametrize(("d", "size"), [(1, (3, 32)), (2, (3, 8, 8)), (3, (3, 4, 4, 4))])
def test_heads_of_maps_average_over_positions(d, size):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[d - 1]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[d - 1](1)
    low = nn.Sequential(conv(3, 6, 3, padding=1), nn.ReLU())
    built = attach(backbone(low, conv(6, 5, 1), nn.Sequential(pool, nn.Flatten())), ["low"], input_size=size)
    x = torch.randn(2, 3, *(n + 3 for n in size[1:]))  # other sizes run as well
    linear = built.heads[0][-1]
    mean = low(x).mean([*range(2, 2 + d)])
    torch.testing.assert_close(built(x)[0], linear(mean))
    assert linear.in_features == 6 and cost(built).exits[0].params


def test_heads_of_maps_with_channels_last_average_over_positions():
    low = nn.Sequential(nn.Conv2d(3, 6, 1), Do(channels_last), nn.LayerNorm(6))
    end = nn.Sequential(Do(channels_first), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    built = attach(backbone(low, nn.Linear(6, 5), end), ["low"], input_size=(3, 4, 5))
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(built(x)[0], built.heads[0][-1](low(x).mean((1, 2))))


def test_attach_asks_where_nobody_tells_and_takes_the_answer():
    def build() -> nn.Sequential:
        return backbone(nn.Identity(), Do(unknown), nn.Sequential(nn.Flatten(), nn.Linear(48, 5)))

    with pytest.raises(UserError, match="`channel_axis=`"):
        attach(build(), ["low"], input_size=MAP)
    built = attach(build(), ["low"], input_size=MAP, channel_axis={1: 2})
    assert built.heads[0][-1].in_features == 4 and built.channel_axes() == [(2,)]
