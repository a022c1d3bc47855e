"""Any traceable network gets exits, and stays the network it was."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from offramp import UserError, attach
from offramp.counting import training_macs
from offramp.forks import partition
from offramp.nets import last_linear
from offramp.nets.attaching import _by_graph
from offramp.tasks import Classification

SIZE = (3, 8, 8)


class Plain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(6, 5)


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels, width, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.bn1(self.conv1(x))))
        out += self.shortcut(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1 = nn.Sequential(Block(4, 4, 1), Block(4, 4, 1))
        self.layer2 = nn.Sequential(Block(4, 6, 2), Block(6, 6, 1))
        self.layer3 = nn.Sequential(Block(6, 8, 2))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor, width: float | None = None) -> Tensor:
        batch = x.shape[0]
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        if width is not None:
            x = x * width
        return self.fc(F.adaptive_avg_pool2d(x, 1).view(batch, -1))


class LongSkip(nn.Module):
    """Two skips over the cuts, one of them over both, and items of a tuple read late."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, 4, 3, padding=1) for i in (3, 4, 4))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.a(x)
        halves = stem.chunk(2, 1)
        y = self.b(stem.relu())
        z = self.c(y) + stem * 2
        z = torch.cat([z[:, :2] + halves[0], z[:, 2:] * halves[1]], 1).sigmoid() + y
        return self.fc(z.mean((2, 3)))


class Functional(nn.Module):
    """What a graph freezes easily: dropout by function, a test of the mode, buffers, tensors made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 5)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.register_buffer("shift", torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x) * self.scale + self.shift.view(-1, 1, 1)
        if self.training and x is None:
            raise AssertionError
        x = F.dropout(x, 0.5, training=self.training)
        x = self.conv2(x) * self.scale * torch.tensor(2.0)
        return F.dropout(self.fc(x.mean((2, 3))), 0.5, self.training)


class InPlace(nn.Module):
    """Writes into the first cut's output by a module, into the second's by a view and an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        self.relu(first)  # and `first` itself is read below, as the ReLU left it
        second = self.conv2(first)
        second.flatten(1).mul_(3.0)
        second += first
        return self.fc(self.relu(self.conv3(second) + second).mean((2, 3)))


class Token(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.cls = nn.Parameter(torch.rand(1, 1, 8))
        self.blocks = nn.Sequential(Token(8), Token(8), Token(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1)
        return self.head(self.blocks(x)[:, 0]).log_softmax(-1)


CASES = [
    (Plain, ["conv1", "conv2"]),
    (Plain, ["bn1", "flatten"]),
    (ResNet, ["layer1", "layer2"]),
    (ResNet, ["stem", "layer2.0.conv1", "layer2.0", "layer3"]),
    (LongSkip, ["a", "b"]),
    (LongSkip, ["b"]),
    (Functional, ["conv1", "conv2"]),
    (InPlace, ["conv1", "conv2"]),
    (InPlace, ["conv1", "conv2", "conv3"]),
    (Transformer, ["blocks.0", "blocks.1"]),
    (Transformer, ["patch", "blocks.1.mlp.0"]),
]
every_case = pytest.mark.parametrize(("build", "at"), CASES, ids=lambda v: getattr(v, "__name__", None))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def run(model: nn.Module, x: Tensor):
    torch.manual_seed(1)
    return model(x)


@every_case
@pytest.mark.parametrize("training", [True, False])
def test_last_exit_is_the_backbone_bit_for_bit(build, at, training):
    backbone = build()
    whole = copy.deepcopy(backbone).train(training)
    net = attach(backbone, at, input_size=SIZE).train(training)
    x = torch.randn(3, *SIZE)
    logits = run(net, x)
    assert [tuple(row.shape) for row in logits] == [(3, 5)] * (len(at) + 1)
    assert torch.equal(logits[-1], run(whole, x))
    for name, buffer in whole.named_buffers():
        assert torch.equal(buffer, backbone.get_buffer(name))


@every_case
def test_gradients_of_the_last_exit_are_the_backbones(build, at):
    backbone = build()
    twin = copy.deepcopy(backbone)
    net = attach(backbone, at, input_size=SIZE)
    x = torch.randn(3, *SIZE)
    run(net, x)[-1].square().sum().backward()
    run(twin, x).square().sum().backward()
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(backbone.get_parameter(name).grad, parameter.grad, msg=name)


@every_case
def test_heads_read_what_the_cut_module_returns(build, at):
    backbone = build().eval()
    outputs = []
    twin = copy.deepcopy(backbone)
    for name in at:
        twin.get_submodule(name).register_forward_hook(lambda *call: outputs.append(call[-1].clone()))
    net = attach(backbone, at, input_size=SIZE)
    x = torch.randn(3, *SIZE)
    twin(x)
    for logits, output, head in zip(net(x), outputs, net.heads, strict=False):
        pooled = output.mean((2, 3)) if output.ndim == 4 else output.mean(1) if output.ndim == 3 else output
        linear = [m for m in head.modules() if isinstance(m, nn.Linear)][-1]
        torch.testing.assert_close(logits, linear(pooled))


@every_case
@pytest.mark.parametrize("training", [True, False])
def test_no_stage_writes_into_what_it_was_handed(build, at, training):
    net = attach(build(), at, input_size=SIZE).train(training)
    feature = net.stages[0](torch.randn(2, *SIZE))
    for stage in net.stages[1:]:
        handed = feature if isinstance(feature, tuple) else (feature,)
        before = [tensor.clone() for tensor in handed]
        feature = stage(feature)
        assert all(map(torch.equal, handed, before))


@every_case
def test_parameters_are_the_backbones_under_their_names(build, at):
    backbone = build()
    net = attach(backbone, at, input_size=SIZE)
    ours = {id(parameter): name for name, parameter in net.named_parameters()}
    for name, parameter in backbone.named_parameters():
        assert ours[id(parameter)].endswith(name) or ours[id(parameter)].startswith(f"heads.{len(at)}.")
    other = attach(build(), at, input_size=SIZE)
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, *SIZE)
    assert torch.equal(other.eval()(x)[-1], net.eval()(x)[-1])


@every_case
def test_backbone_is_left_as_it_was(build, at):
    backbone = build().train()
    next(m for m in backbone.modules() if not [*m.children()]).eval()
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    attributes = [(module, dict(vars(module))) for module in backbone.modules()]
    attach(backbone, at, input_size=SIZE)
    assert [(module, dict(vars(module))) for module in backbone.modules()] == attributes
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name]), name


@every_case
def test_stages_and_heads_can_be_traced_again(build, at):
    net = attach(build(), at, input_size=SIZE)
    for module in [*net.stages, *net.heads]:
        graph = fx.Tracer().trace(module)
        assert [node.op for node in graph.nodes].count("placeholder") == 1
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def pickled(net: nn.Module) -> nn.Module:
    """Written and read by torch, which warns where what is in the file is going out of use."""
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@every_case
@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_a_copy_does_the_same_in_both_modes(build, at, duplicate):
    net = attach(build(), at, input_size=SIZE)
    other = duplicate(net)
    assert not {*map(id, other.parameters())} & {*map(id, net.parameters())}
    x = torch.randn(2, *SIZE)
    for training in (True, False):
        torch.testing.assert_close(run(other.train(training), x), run(net.train(training), x), rtol=0, atol=0)


@pytest.mark.parametrize("build", [ResNet, LongSkip, Functional, InPlace, Transformer])
@pytest.mark.parametrize("training", [True, False])
def test_compiles_as_one_graph(build, training):
    at = dict(reversed(CASES))[build]
    net = attach(build(), at, input_size=SIZE).train(training)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(net), backend="eager", fullgraph=True)
    x = torch.randn(2, *SIZE)
    torch.testing.assert_close(run(compiled, x), run(net, x), rtol=0, atol=0)


def test_stages_of_a_resnet_read_like_the_resnet():
    net = attach(ResNet(), ["layer1", "layer2"], input_size=SIZE)
    assert [[name for name, _ in stage.named_children()] for stage in net.stages] == [
        ["stem", "layer1"],
        ["layer2"],
        ["layer3"],
    ]
    assert "stages.1.layer2.0.conv1.weight" in net.state_dict()
    assert isinstance(net.heads[-1], nn.Linear)
    assert net.input_size == SIZE and net.num_exits == 3


@pytest.mark.parametrize(("build", "at"), [case for case in CASES if case[0] is not Transformer])
def test_a_partition_leaves_the_logits_as_they_are(build, at):
    net = attach(build(), at, input_size=SIZE).eval()
    x = torch.randn(2, *SIZE)
    plain = net(x)
    torch.testing.assert_close(partition(net, beta=0.5)(x), plain, rtol=0, atol=0)


@pytest.mark.parametrize("beta", [0.25, 0.5, 0.75])
def test_a_partition_saves_the_products_of_the_gradients_it_cuts(beta):
    """Input gradients at the cuts: the stage's to the own channels are dropped, the head's to the shared."""
    backbone = nn.Sequential()
    for name, reads, channels in (("a", 3, 8), ("b", 8, 16), ("c", 16, 4)):
        backbone.add_module(name, nn.Conv2d(reads, channels, 3, padding=1))
    for name, module in (("pool", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten()), ("fc", nn.Linear(4, 5))):
        backbone.add_module(name, module)
    net = attach(backbone, ["a", "b"], input_size=SIZE)

    pixels, kernel, classes = 8 * 8, 9, 5
    convolutions = [pixels * kernel * reads * channels for reads, channels in ((3, 8), (8, 16), (16, 4))]
    linears = [channels * classes for channels in (8, 16, 4)]
    joint = 3 * sum(convolutions) - convolutions[0] + 3 * sum(linears)  # images need no gradient
    assert training_macs(net) == joint

    own, shared = 1 - beta, beta  # beta splits 8 and 16 channels without a rest
    saved = own * (convolutions[1] + convolutions[2]) + shared * (linears[0] + linears[1])
    assert training_macs(partition(net, beta=beta)) == joint - saved


def test_final_layer_is_found_inside_the_last_module():
    class Tail(nn.Sequential):
        pass

    tail = Tail(nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Flatten(), nn.Linear(6, 5)))
    net = attach(nn.Sequential(nn.Conv2d(3, 4, 3), tail), ["0"], input_size=SIZE)
    assert net.heads[-1] is tail[2][1]
    assert net.stages[-1].get_submodule("1.0") is tail[0]


class Ending(Plain):
    """Ends in functions of its own."""

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.end = end
        self.drop = nn.Sequential(nn.Dropout(0.5), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self, self.fc(self.flatten(self.pool(self.conv2(self.conv1(x))))))


ENDS = {
    "squeezed": lambda net, z: z[:, None].squeeze(1),
    "dropped by a function": lambda net, z: F.dropout(z, 0.5, net.training),
    "dropped by a module": lambda net, z: net.drop(z),
    "both, and more": lambda net, z: F.dropout(
        net.drop(z).log_softmax(-1).clamp(-9, 9), training=net.training
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_functions_after_the_last_linear_layer_belong_to_its_head(end):
    backbone = Ending(ENDS[end])
    backbone.drop.eval()
    twin = copy.deepcopy(backbone)
    net = attach(backbone, ["conv1"], input_size=SIZE)
    assert net.heads[-1][0] is backbone.fc and last_linear(net, 2) is backbone.fc
    assert not backbone.drop[0].training and net.training
    x = torch.randn(3, *SIZE)
    for training in (True, False):
        assert torch.equal(run(net.train(training), x)[-1], run(twin.train(training), x))
    torch.testing.assert_close(net(x, keep=True).features[-1], backbone.conv2(backbone.conv1(x)).mean((2, 3)))


@pytest.mark.parametrize(
    "end",
    [lambda net, z: z + z.relu(), lambda net, z: z * net.bn1.weight[0], lambda net, z: z + torch.randn(5)],
)
def test_what_reads_more_than_the_last_linear_layer_stays_in_the_stage(end):
    backbone = Ending(end)
    net = attach(backbone, ["conv1"], input_size=SIZE)
    x = torch.randn(3, *SIZE)
    assert torch.equal(run(net, x)[-1], run(backbone, x))
    assert last_linear(net, 2) is backbone.fc


def test_only_what_later_stages_read_is_carried():
    net = attach(LongSkip(), ["a", "b"], input_size=SIZE)
    x = torch.randn(2, *SIZE)
    first = net.stages[0](x)
    assert isinstance(first, Tensor)  # the skip's source is the cut module's output itself
    second = net.stages[1](first)
    assert len(second) == 4  # the skip, the two halves, and the cut module's output
    assert torch.equal(second[0], first)
    assert isinstance(attach(Plain(), ["conv1"], input_size=SIZE).stages[0](x), Tensor)


def test_a_size_is_measured_again_and_its_source_not_carried_when_it_crosses_anyway():
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.fc = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            batch, channels = x.size(0), x.shape[1]
            return self.fc(self.conv2(x).view(batch, channels, -1).mean(-1))

    net = attach(Sized(), ["conv1"], input_size=SIZE)
    assert isinstance(net.stages[0](torch.randn(2, *SIZE)), Tensor)
    assert net(torch.randn(7, *SIZE))[-1].shape == (7, 5)


def test_functional_dropout_drops_in_training_only():
    net = attach(Functional(), ["conv1"], input_size=SIZE)
    x = torch.randn(4, *SIZE)
    net.train()
    assert not torch.equal(net(x)[-1], net(x)[-1])
    assert torch.equal(net(x)[0], net(x)[0])  # the head reads before the dropout
    net.eval()
    assert torch.equal(net(x)[-1], net(x)[-1])


def test_frozen_modules_stay_frozen():
    backbone = ResNet().train()
    backbone.layer1.eval()
    net = attach(backbone, ["layer1.0.conv1"], input_size=SIZE)
    assert net.training and net.stages[1].training
    assert not net.stages[0].get_submodule("layer1.0").training  # stands for the module that was cut
    assert not backbone.layer1[1].bn1.training


def test_double_precision_backbone_gets_double_heads():
    net = attach(Plain().double(), ["conv1"], input_size=SIZE)
    assert net(torch.randn(2, *SIZE, dtype=torch.float64))[0].dtype == torch.float64


def test_a_module_used_in_two_stages_is_one_module():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
            self.mid, self.fc = nn.ReLU(), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.mid(self.conv(self.stem(x)))
            return self.fc(self.conv(x).mean((2, 3)))

    net = attach(Tied(), ["mid"], input_size=SIZE)
    assert net.stages[0].conv is net.stages[1].conv
    assert len([*net.parameters()]) == 8


class ControlFlow(Plain):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = -x
        return super().forward(x)


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[: int(x.mean())]


class HiddenFlow(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.bn1 = Inner()


class ModeSwitch(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if self.training:
            x = x * 2
        return self.fc(self.conv2(x).mean((2, 3)))


class Twice(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.bn1(self.bn1(self.conv1(x)))).mean((2, 3)))


class Tuples(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        return self.fc(self.pair(x)[0].mean(1))


class Wrapped(nn.Module):
    """A block that returns its output in a container, beside what is no Tensor, as transformers do."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.wrap = nn.Conv2d(3, 3, 3, padding=1), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.conv(x).relu())


class OfWrapped(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any], key: Any) -> None:
        super().__init__()
        self.blocks, self.key = nn.ModuleList(Wrapped(wrap) for _ in range(3)), key
        self.fc = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)[self.key]
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("at", [["blocks.0", "blocks.1"], "auto:2"])
@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda x: (x,), 0),
        (lambda x: (x, None), 0),
        (lambda x: [None, x], 1),
        (lambda x: {"hidden": x, "weights": None}, "hidden"),
    ],
    ids=["tuple", "tuple with None", "list", "dict"],
)
def test_a_module_may_return_its_one_tensor_in_a_container(wrap, key, at):
    torch.manual_seed(0)
    backbone, x = OfWrapped(wrap, key), torch.randn(2, *SIZE)
    net = attach(backbone, at=at, input_size=SIZE)
    assert torch.equal(net(x)[-1], backbone(x))
    read = []
    net.heads[0].register_forward_pre_hook(lambda head, args: read.append(args[0]))
    net(x)
    feature = read[0] if isinstance(read[0], Tensor) else read[0][-1]
    place = int(net.exits_after[0].split(".")[1])
    expected = x
    for block in backbone.blocks[: place + 1]:
        expected = block.conv(expected).relu()
    assert torch.equal(feature, expected)


class Crossing(Plain):
    def forward(self, x: Tensor) -> Tensor:
        parts = self.conv1(x).chunk(2, 1)
        return self.fc(self.conv2(self.bn1(torch.cat(parts, 1)) + torch.cat(parts, 1)).mean((2, 3)))


class Noise(Plain):
    """Draws before the cut, so that its stages draw in another order than the whole."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn(1)) + torch.randn(5)


class Ids(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Embedding(9, 4), nn.Flatten(), nn.LazyLinear(5))
        self(torch.ones(2, 3, dtype=torch.long))


class Auxiliary(Plain):
    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return SimpleNamespace(logits=logits, aux_logits=logits) if self.training else logits


class TwoInputs(Plain):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x * mask)


class Segmenter(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1))


class Lazy(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


class LazyNorm(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.LazyBatchNorm2d(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))


class Meta(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.to("meta")


class Pair(Plain):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv1(x)
        return x, self.conv2(x)


@pytest.mark.parametrize(
    ("build", "at", "options", "line"),
    [
        (ResNet, [], {}, r"at=\[\].*list of module names"),
        (ResNet, "layer1", {}, r"at='layer1'.*list of module names"),
        (
            ResNet,
            ["layr1"],
            {},
            r"ResNet has no module 'layr1' \(did you mean 'layer1'\?\); it has: stem, layer1",
        ),
        (ResNet, 3, {}, r"at=3 names no place for an exit; give a list of module names"),
        (ResNet, (name for name in ["layer1"]), {}, r"at=<generator .*give a list of module names"),
        (ResNet, [3], {}, r"at=\[3\] names no place for an exit; give a list of module names"),
        (ResNet, ["first"], {}, r"ResNet has no module 'first'; it has: stem, layer1"),
        (Lazy, ["0"], {}, r"'0.weight' of Lazy has no shape yet; run a batch through"),
        (LazyNorm, ["0"], {}, r"'0.weight' of LazyNorm has no shape yet; run a batch through"),
        (Meta, ["conv1"], {}, r"'conv1.weight' of Meta is on the meta device"),
        (ResNet, ["layer2", "layer1"], {}, r"'layer1' runs before 'layer2'.*at=\['layer1', 'layer2'\]"),
        (ResNet, ["layer1", "layer1.1"], {}, r"'layer1' and 'layer1.1' return the same Tensor"),
        (ResNet, ["layer1.0.relu"], {}, r"'layer1.0.relu' runs 2 times"),
        (ResNet, ["layer3", "fc"], {}, r"'fc' returns the output of ResNet.*leave 'fc' out"),
        (ResNet, ["layer1"], {"num_classes": 7}, r"num_classes=7, but ResNet has 5 classes"),
        (
            ResNet,
            ["layer1"],
            {"input_size": (1, 8, 8)},
            r"ResNet cannot run on .*\[2, 1, 8, 8\].*input_size=",
        ),
        (Twice, ["bn1"], {}, r"'bn1' runs 2 times"),
        (Twice, ["pool"], {}, r"'pool' never runs"),
        (Tuples, ["conv1", "pair"], {}, r"'pair' returns a tuple, not a float Tensor"),
        (TwoInputs, ["conv1"], {}, r"TwoInputs cannot run.*argument: 'mask'; .*`example=\(x, \.\.\.\)`"),
        (Ids, ["0"], {}, r"Ids cannot run on .*pass token ids \[N, T\].*`example=`"),
        (Noise, ["conv1"], {}, r"Noise in train mode gives other logits split than whole"),
        (Auxiliary, ["conv1"], {}, r"Auxiliary returns the logits of auxiliary heads.*aux_logits=False"),
        (ResNet, ["layer1"], {"heads": []}, r"heads= has 0 heads for 1 exits before the last"),
        (Segmenter, ["0"], {}, r"Segmenter returns torch.float32 \[2, 5, 6, 6\], not logits"),
        (Pair, ["conv1"], {}, r"Pair returns a tuple, not logits"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_what_cannot_be_split_is_refused_in_one_line(build, at, options, line):
    backbone = build()
    modes = [module.training for module in backbone.modules()]
    with pytest.raises(UserError, match=line) as caught:
        attach(backbone, at, **{"input_size": SIZE, **options})
    assert "\n" not in str(caught.value)
    assert [module.training for module in backbone.modules()] == modes


class InPlaceFlow(Plain):
    """Python on values, and writes by statement to what lies on both sides of the cut."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        y += float(x[0, 0, 0, 0] > 0)
        z = self.bn1(y)
        z.mul_(2)
        return self.fc(self.conv2(z + y).mean((2, 3)))


@pytest.mark.parametrize(
    ("build", "at"),
    [
        (ControlFlow, ["conv1", "conv2"]),
        (ModeSwitch, ["conv1"]),
        (Crossing, ["bn1"]),
        (InPlaceFlow, ["conv1"]),
        (InPlaceFlow, ["conv1", "bn1"]),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_what_fx_cannot_trace_is_run_anew_by_each_stage(build, at, training):
    backbone = build().train(training)
    twin = copy.deepcopy(backbone)
    net = attach(backbone, at, input_size=SIZE)
    other = copy.deepcopy(net)
    saved = pickled(net)
    for n in (2, 5):
        x = torch.randn(n, *SIZE)
        logits, whole = net(x), twin(x)
        assert torch.equal(logits[-1], whole)
        assert torch.equal(other(x)[0], logits[0])
        assert torch.equal(saved(x)[0], logits[0])
        assert torch.equal(backbone.bn1.running_mean, twin.bn1.running_mean)
    sum(z.square().sum() for z in logits[-1:]).backward()
    whole.square().sum().backward()
    for name, parameter in twin.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(backbone.get_parameter(name).grad, parameter.grad, msg=name)


class Collecting(Plain):
    """Writes to a list, which a graph cannot."""

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.conv1(x), x]
        maps[1] = self.conv2(maps[0])
        return self.fc(maps[1].mean((2, 3)))


def test_a_list_that_is_written_to_is_left_to_the_forward_itself():
    backbone = Collecting()
    x = torch.randn(2, *SIZE)
    assert torch.equal(attach(backbone, ["conv1"], input_size=SIZE)(x)[-1], backbone(x))


@pytest.mark.parametrize("error", [KeyError, TypeError, UserError])
def test_a_fault_of_the_splitting_itself_is_not_hidden(monkeypatch, error):
    def faulty(*_: Any) -> None:
        raise error("a fault")

    monkeypatch.setattr(_by_graph, "split_graph", faulty)
    with pytest.raises(error, match="a fault"):
        attach(Plain(), ["conv1"], input_size=SIZE)


def test_a_module_without_a_cut_stays_closed():
    class Odd(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if int(x.sum()) % 2 else -super().forward(x)

    backbone = nn.Sequential(Odd(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    net = attach(backbone, ["1"], input_size=SIZE)
    x = torch.randn(3, *SIZE)
    assert torch.equal(net(x)[-1], backbone(x)) and isinstance(net.stages[0], fx.GraphModule)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Embedding(9, 4), nn.Linear(4, 4)
        self.fc = nn.Linear(4, 5)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        x = self.mix(self.embed(ids))
        x = x.mean(1) if mask is None else (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return {"logits": self.fc(x)}


IDS, MASK = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    "example", [IDS, (IDS, MASK), {"ids": IDS, "mask": MASK}], ids=["one", "two", "named"]
)
def test_an_example_says_what_the_input_is(example):
    backbone = Named()
    net = attach(backbone, ["embed", "mix"], example=example, pool="mean")
    x = net.sample(5)
    whole = backbone(**x) if isinstance(x, dict) else backbone(*x) if isinstance(x, tuple) else backbone(x)
    logits = net(x)
    assert torch.equal(logits[-1], whole["logits"]) and [*logits[0].shape] == [5, 5]
    assert net.heads[-1] is backbone.fc
    assert net.owners()["stages.0.backbone.embed.inner.weight"] == {0, 1, 2}


def test_heads_of_a_users_own():
    head = nn.Sequential(nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = ResNet()
    net = attach(backbone, ["layer1"], input_size=SIZE, heads=[head])
    x = torch.randn(2, *SIZE)
    torch.testing.assert_close(net.eval()(x)[0], head(backbone.layer1(backbone.stem(x))))


def test_mode_switch_in_a_module_of_its_own_is_no_obstacle():
    class Switch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if self.training else x

    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), Switch(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    net = attach(backbone, ["0", "1"], input_size=SIZE)
    x = torch.randn(2, *SIZE)
    for training in (True, False):
        assert torch.equal(net.train(training)(x)[-1], backbone(x))


def test_an_input_size_that_is_no_shape():
    with pytest.raises(UserError, match=r"input_size is the shape of one input.*got 8"):
        attach(Plain(), ["conv1"], input_size=8)


def test_every_exit_has_the_task_that_is_given():
    task = Classification(target="breed", label_smoothing=0.1)
    assert attach(Plain(), ["bn1"], input_size=SIZE, task=task).outputs == {"exit 1": task, "exit 2": task}
    assert attach(Plain(), ["bn1"], input_size=SIZE).outputs["exit 1"] == Classification()
    with pytest.raises(UserError, match="got 'label'"):
        attach(Plain(), ["bn1"], input_size=SIZE, task="label")
