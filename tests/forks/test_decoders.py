"""One trunk and a decoder for each task: a fork with K consumers, against gradients masked by hand."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torchvision import models

import offramp
from offramp import UserError
from offramp.counting import training_macs
from offramp.forks import Equilibrium, Fork, GainFork, Partition, Place, install, partition, remove
from offramp.forks._gradient_sum import GradientSum
from offramp.nets import MultiTaskNet, create
from offramp.tasks import Classification

EXACT = {"rtol": 0, "atol": 1e-11}
IMPLEMENTATIONS = ("fused", "split", "cat")
K, C = 3, 8
# where the parts of C channels end for some shares of three decoders
SHARES: dict[str, tuple[dict[str, object], list[int]]] = {
    "equal": ({}, [3, 5, 8]),
    "unequal": ({"beta": [0.5, 0.25, 0.25]}, [4, 6, 8]),
    "one channel each at the ends": ({"beta": [0.125, 0.75, 0.125]}, [1, 7, 8]),
    "floor": ({"rounding": "floor"}, [2, 5, 8]),
}


class Trunk(nn.Module):
    """Maps ``[N, C, 6, 6]`` of images ``[N, 3, 8, 8]``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.first(x))))


def decoder(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(C, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def tasks(*decoders: nn.Module, trunk: nn.Module | None = None, **options) -> MultiTaskNet:
    torch.manual_seed(0)
    trunk, decoders = trunk or Trunk(), decoders or tuple(decoder(k + 2) for k in range(K))
    names = {f"task {k}": (d, Classification(target=f"task {k}")) for k, d in enumerate(decoders)}
    return offramp.multi_task(trunk, names, input_size=(3, 8, 8), **options).double()


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def losses(outputs: list[Tensor]) -> list[Tensor]:
    """Of sizes that differ, lest a mix-up cancels."""
    return [(k + 1) * z.square().sum() for k, z in enumerate(outputs)]


def mask(part: int, ends: list[int]) -> Tensor:
    channels = torch.arange(C)
    return ((channels >= ([0, *ends])[part]) & (channels < ends[part])).double()[:, None, None]


def by_hand(net: MultiTaskNet, ends: list[int], scale: float = 1.0) -> list[Tensor]:
    """The parameters' gradients, each loss masked at the feature by a pass of its own through a plain net."""
    trunk = list(net.stages.parameters())
    feature = net.stages[0](images())
    total = [torch.zeros_like(p) for p in trunk]
    of_decoders: list[Tensor] = []
    for k, decoder in enumerate(net.decoders):
        handed = feature.detach().requires_grad_()
        loss = scale * losses([torch.zeros(1)] * k + [decoder(handed)])[k]
        to_feature, *own = torch.autograd.grad(loss, [handed, *decoder.parameters()])
        grads = torch.autograd.grad(feature, trunk, to_feature * mask(k, ends), retain_graph=True)
        total = [a + b for a, b in zip(total, grads, strict=True)]
        of_decoders += own
    return total + of_decoders


def gradients(net: nn.Module, call=None) -> list[Tensor]:
    parameters = [*net.stages.parameters(), *net.decoders.parameters()]
    return list(
        torch.autograd.grad(
            sum(losses((net if call is None else call)(images()))), parameters, materialize_grads=True
        )
    )


def assert_same(ours, theirs, **tolerance) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or EXACT))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize(("options", "ends"), SHARES.values(), ids=SHARES)
def test_each_loss_reaches_its_own_channels_and_every_decoder_reads_all(options, ends, impl):
    net = tasks()
    plain, expected = net(images()), by_hand(net, ends)
    assert type(partition(net, impl=impl, **options).forks[0]) is GainFork
    for ours, theirs in zip(net(images()), plain, strict=True):
        assert torch.equal(ours, theirs) or impl == "split"
        torch.testing.assert_close(ours, theirs, **EXACT)
    assert_same(gradients(net), expected)


def feature_gradient(net: MultiTaskNet, factors: list[float]) -> Tensor:
    seen: list[Tensor] = []
    handle = net.stages[0].register_forward_hook(lambda _, __, out: out.register_hook(seen.append) and None)
    found = zip(factors, losses(net(images())), strict=True)
    sum(factor * loss for factor, loss in found).backward()
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_a_loss_a_hundred_times_as_large_changes_its_own_group_alone(impl):
    net = partition(tasks(), impl=impl)
    plain = feature_gradient(net, [1, 1, 1])
    for k, (start, stop) in enumerate([(0, 3), (3, 5), (5, 8)]):
        factors = [1.0] * K
        factors[k] = 100.0
        large = feature_gradient(net, factors)
        changed = torch.arange(start, stop)
        others = [c for c in range(C) if not start <= c < stop]
        assert torch.equal(large[:, others], plain[:, others])
        torch.testing.assert_close(large[:, changed], 100 * plain[:, changed], rtol=1e-12, atol=0)
        assert plain[:, changed].abs().sum(dim=(0, 2, 3)).min() > 0


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_gradients_of_disjoint_channels_are_written_side_by_side():
    """One write for each consumer, with no zero fill and no addition."""
    gradient_sum = GradientSum.plan(Partition().gains(Place(C, 1, 1, heads=K)).tolist(), axis=1)
    grads = [torch.randn(2, channels.count, 4, 4) for channels in gradient_sum.live]
    with _Operators() as seen:
        whole = gradient_sum.gather(grads, (2, C, 4, 4), torch.contiguous_format)
    assert torch.equal(whole, torch.cat(grads, 1))
    assert Counter(seen.names) - Counter({"slice": 2 * K}) == {"empty": 1, "copy_": K}


def test_what_is_cut_is_never_computed():
    """Of the input gradient of the three convolutions that read the feature a third is left."""
    net = tasks()
    joint = training_macs(net)
    reader = 4 * 4 * 4 * 9  # multiply-accumulates for each channel read: output map, channels, kernel
    assert training_macs(partition(net)) == joint - (K - 1) * C * reader
    assert training_macs(install(remove(net), [Equilibrium()])) == joint
    assert training_macs(partition(remove(net), impl="cat")) == joint


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_and_layout(dtype, layout):
    """No further from float64 than detached halves are in the same precision, but for rounding noise."""
    exact = tasks()
    truth = torch.cat([g.flatten() for g in by_hand(exact, [3, 5, 8])])

    def found(impl: str) -> Tensor:
        net = partition(copy.deepcopy(exact).float().to(memory_format=layout), impl=impl)
        x = images().float().to(memory_format=layout)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs = net(x)
        assert {z.dtype for z in outputs} == {dtype}
        parameters = [*net.stages.parameters(), *net.decoders.parameters()]
        grads = torch.autograd.grad(sum(losses([z.double() for z in outputs])), parameters)
        return torch.cat([g.flatten().double() for g in grads])

    ours, theirs = found("fused"), found("cat")
    assert (ours - truth).norm() <= 1.5 * (theirs - truth).norm() + 1e-3 * truth.norm()


class Twice(nn.Module):
    """A decoder that reads the feature by two layers and as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x) + self.two(F.relu(x)) * x).mean((2, 3))


class Checkpointed(nn.Module):
    def __init__(self, body: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.body, self.reentrant = body, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.body, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_odd_decoders(impl):
    torch.manual_seed(0)
    shared = decoder(3)
    net = tasks(Twice(), Checkpointed(decoder(2), reentrant=False), shared, shared)
    expected = by_hand(net, [2, 4, 6, 8])
    partition(net, impl=impl)
    ours = gradients(net)
    count = len(list(shared.parameters()))  # the shared decoder hears both of its losses
    (*expected,) = expected[: -2 * count] + [
        a + b for a, b in zip(expected[-2 * count : -count], expected[-count:], strict=True)
    ]
    assert_same(ours, expected)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_second_derivatives(impl):
    def second(net: nn.Module) -> list[Tensor]:
        parameters = list(net.parameters())
        first = torch.autograd.grad(sum(losses(net(images()))), parameters, create_graph=True)
        return list(torch.autograd.grad(sum((g**2).sum() for g in first), parameters, materialize_grads=True))

    plain = tasks()
    feature = partition(copy.deepcopy(plain), impl=impl)
    oracle = copy.deepcopy(plain)
    oracle.forks[0] = _MaskedByHooks([3, 5, 8])
    assert_same(second(feature), second(oracle), rtol=1e-10, atol=1e-9)


class _MaskedByHooks(nn.Module):
    def __init__(self, ends: list[int]) -> None:
        super().__init__()
        self.ends = ends

    def forward(self, feature: Tensor) -> list[Tensor]:
        aliases = [feature.view_as(feature) for _ in self.ends]
        for part, alias in enumerate(aliases):
            alias.register_hook(lambda grad, part=part: grad * mask(part, self.ends))
        return aliases


# Dynamo instantiates every autograd.Function that it traces, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_compiles_as_one_graph(impl):
    net = partition(tasks(), impl=impl)
    torch._dynamo.reset()
    compiled = gradients(net, torch.compile(net, fullgraph=True, backend="aot_eager"))
    assert_same(compiled, gradients(net), rtol=1e-9, atol=1e-9)


def test_one_task_alone_and_rows_of_all_at_once():
    net = partition(tasks())
    parameters = list(net.stages.parameters())
    each = torch.stack(losses(net(images())))
    rows = [torch.autograd.grad(z, parameters, retain_graph=True) for z in each]
    batched = torch.autograd.grad(each, parameters, torch.eye(K, dtype=torch.float64), is_grads_batched=True)
    assert_same(batched, [torch.stack(column) for column in zip(*rows, strict=True)])
    last = [row[-2] for row in rows]  # of the convolution whose channels are parted
    for k, (start, stop) in enumerate([(0, 3), (3, 5), (5, 8)]):
        reached = last[k].flatten(1).abs().sum(1) > 0
        assert reached.nonzero().flatten().tolist() == list(range(start, stop))


def test_owners_see_the_surgery():
    net = tasks(trunk=nn.Conv2d(3, C, 3))
    assert net.owners()["stages.0.weight"] == {0, 1, 2}
    assert partition(net).owners()["decoders.1.0.weight"] == {1}


def test_on_off_and_copied():
    net = tasks()
    keys = list(net.state_dict())
    partition(net)
    again = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    assert list(again.state_dict()) == keys
    assert_same(gradients(again), gradients(net))
    assert type(remove(net).forks[0]) is Fork
    assert len(net.forks[0](torch.ones(1))) == K
    assert_same(gradients(net), gradients(tasks()))


def test_without_referencing_a_decoder_reads_its_own_channels_alone():
    net = tasks()
    feature = net.stages[0](images())
    expected = [d(feature * mask(k, [3, 5, 8])) for k, d in enumerate(net.decoders)]
    parameters = [*net.stages.parameters(), *net.decoders.parameters()]
    wanted = torch.autograd.grad(sum(losses(expected)), parameters)
    partition(net, reference="zero")
    assert_same(net(images()), expected)
    assert_same(gradients(net), wanted)


def test_equilibrium_gives_the_trunk_the_mean_of_the_decoders():
    net = tasks()
    count = len(list(net.stages.parameters()))
    joint = gradients(net)
    expected = [g / K for g in joint[:count]] + joint[count:]
    assert_same(gradients(install(net, [Equilibrium()])), expected)
    cut = by_hand(remove(net), [3, 5, 8])
    expected = [g / K for g in cut[:count]] + cut[count:]
    assert_same(gradients(install(net, [Partition(), Equilibrium()])), expected)


def test_gains_at_any_fork():
    """A consumer's gain under equilibrium is its share of the outputs behind the fork."""
    place = Place(2, exit=1, num_exits=3, heads=2)
    assert place.outputs == (1, 1, 4)
    assert Equilibrium().gains(place).tolist() == [[1 / 6] * 2, [1 / 6] * 2, [4 / 6] * 2]
    assert Place(2, exit=3, num_exits=3, heads=2).outputs == (1, 1)
    gains = Partition(beta=[0.5, 0.25, 0.25]).gains(Place(4, 1, 1, heads=3))
    assert gains.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert Partition().gains(Place(4, 1, 1, heads=1)) is None  # one decoder: there is nothing to part


class Pooled(nn.Module):
    """A trunk that returns a map and the indices of its pooling, as SegNet's encoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.pool = Trunk(), nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool(self.body(x))


class Unpooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unpool, self.body = nn.MaxUnpool2d(2), decoder(3)

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return self.body(self.unpool(*x))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_of_a_map_and_indices_the_map_is_parted(impl):
    net = tasks(Unpooled(), Unpooled(), trunk=Pooled())
    assert net.channel_axes() == [(1, None)]
    feature, indices = net.stages[0](images())
    total = 0
    for k, d in enumerate(net.decoders):
        handed = feature.detach().requires_grad_()
        (grad,) = torch.autograd.grad(losses([torch.zeros(1)] * k + [d((handed, indices))])[k], handed)
        total = total + grad * mask(k, [4, 8])
    expected = torch.autograd.grad(feature, list(net.stages.parameters()), total)
    assert_same(gradients(partition(net, impl=impl))[: len(expected)], expected)


def test_tokens_are_parted_in_their_last_axis():
    trunk = nn.Sequential(nn.Conv2d(3, C, 4, stride=4), nn.Flatten(2), _Transpose(), nn.LayerNorm(C))
    head = nn.Sequential(nn.Linear(C, 2), nn.Flatten(), nn.Linear(8, 2))
    net = tasks(head, copy.deepcopy(head), trunk=trunk)
    assert net.channel_axes() == [(2,)]
    rows = [
        torch.autograd.grad(z, net.stages[0][3].bias, retain_graph=True)[0]
        for z in losses(partition(net)(images()))
    ]
    assert [row.nonzero().flatten().tolist() for row in rows] == [[0, 1, 2, 3], [4, 5, 6, 7]]


class _Transpose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def test_an_axis_that_is_not_certain_is_asked_for():
    def build(**options):
        trunk = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Flatten(2))
        return tasks(
            *(nn.Sequential(nn.Linear(16, 6), nn.Flatten(), nn.Linear(24, 2)) for _ in range(2)),
            trunk=trunk,
            **options,
        )

    with pytest.raises(
        UserError, match=r"axis of the trunk's feature, \[2, 4, 16\], .* `channel_axis=`, such as 1"
    ):
        partition(build())
    assert partition(build(channel_axis=1)).channel_axes() == [(1,)]
    with pytest.raises(UserError, match="channel_axis=3 is no channel axis of the trunk's feature"):
        partition(build(channel_axis=3))


def exits_and_tasks() -> MultiTaskNet:
    stages = [nn.Conv2d(3, C, 3), nn.Conv2d(C, C, 3)]
    decoders = {f"task {k}": ([decoder(2), decoder(2)], Classification(target=f"task {k}")) for k in range(2)}
    return offramp.multi_task(stages, decoders, input_size=(3, 8, 8)).double()


def test_of_exits_and_tasks_equilibrium_gives_each_stage_the_mean():
    net = exits_and_tasks()
    expected = gradients(net)
    expected[:2] = [g / 4 for g in expected[:2]]
    expected[2:4] = [g / 2 for g in expected[2:4]]
    assert_same(gradients(install(net, [Equilibrium()])), expected)
    with pytest.raises(
        UserError, match="this net has several tasks at each exit; take a net with one of them"
    ):
        partition(remove(net))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"beta": 0.3}, "beta is 0.3, and this net has 3 decoders; give a list with the share of each"),
        (
            {"beta": [0.5, 0.5]},
            "beta is (0.5, 0.5), and this net has 3 decoders; give a list with the share of each",
        ),
        ({"beta": [0.96, 0.02, 0.02]}, "leaves decoder 2 of 3 no channel of the 8 (rounding=round)"),
        ({"beta": [1.0, 0.0, 0.0]}, "beta are [1.0, 0.0, 0.0], must be the share of each decoder, above 0"),
        ({"beta": [0.5, 0.5, 0.5]}, "must be the share of each decoder, above 0 and adding up to 1"),
        ({"beta": []}, "must be the share of each decoder"),
        ({"beta": ["a", 0.5]}, "must be the share of each decoder"),
        ({"where": [1]}, "are about exits, and this net has a decoder for each task; leave them out"),
        ({"channels": {1: [0]}}, "are about exits"),
        ({"own_to_shared": 1}, "are about exits"),
        ({"rounding": "multiple_of=8"}, "leaves decoder 1 of 3 no channel of the 8 (rounding=multiple_of=8)"),
    ],
)
def test_shares_that_do_not_fit_are_refused_and_the_net_is_left_alone(options, says):
    net = tasks()
    with pytest.raises(UserError) as error:
        partition(net, **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert type(net.forks[0]) is Fork


def test_shares_are_of_decoders_and_not_of_exits():
    stages = [nn.Conv2d(3, C, 3), nn.Conv2d(C, C, 3)]
    net = offramp.MultiExitNet(stages, [decoder(2), decoder(2)], input_size=(3, 8, 8))
    with pytest.raises(UserError, match=r"a share for each decoder .* for exits give one number"):
        partition(net, beta=[0.5, 0.5])


def test_a_net_without_forks_is_refused():
    with pytest.raises(UserError, match="Linear has no forks to put rules on"):
        partition(nn.Linear(2, 2))
    assert type(remove(nn.Linear(2, 2))) is nn.Linear


def test_a_net_with_one_output_is_refused():
    with pytest.raises(UserError, match="has one output, so that no gradients meet at a fork"):
        partition(tasks(decoder(2)))


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_backbone_as_trunk(library):
    """Of what two linear layers send back to a vector of D values, half is left."""
    if library == "timm":
        trunk, width = timm.create_model("resnet10t", num_classes=0), 512
    else:
        trunk, width = models.mobilenet_v3_small(), 576
        trunk.classifier = nn.Identity()
    heads = {name: (nn.Linear(width, 3), Classification(target=name)) for name in ("one", "two")}
    net = offramp.multi_task(trunk, heads, input_size=(3, 32, 32)).eval()
    x = torch.randn(2, 3, 32, 32)
    plain, joint = net(x), training_macs(net)
    assert all(map(torch.equal, partition(net)(x), plain))
    assert training_macs(net) == joint - width * 3


def test_segnet_split_is_one_such_fork_and_the_others_are_none():
    """Its heads' first convolutions, of C to C channels, send back a third of their input's gradient each."""
    net = create("segnet_split", width=4)
    net.input_size = (3, 32, 32)
    x = torch.randn(2, 3, 32, 32)
    plain, joint = net(x), training_macs(net)
    assert all(map(torch.equal, partition(net)(x), plain))
    assert joint - training_macs(net) == (K - 1) * 4 * 4 * 9 * 32 * 32
    for name in ("segnet_mtan", "segnet_cross_stitch"):
        with pytest.raises(UserError, match=r"'dfs' works where a feature forks, .* has no such fork"):
            offramp.method("dfs").bind(create(name, width=2))
