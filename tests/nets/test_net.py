"""Nets of a user's own are trained, counted and opened again; what they lack is asked for in one line."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import offramp
from offramp import Recipe, UserError
from offramp.counting import training_macs
from offramp.nets import MultiExitNet, Net, Separate, owners, vgg7
from offramp.nets.net import check_net
from offramp.tasks import Classification, Task

SIZE = (3, 32, 32)
TRUNK, HEAD = 12 * 6 + 6, 6 * 10 + 10  # parameters


def parts() -> tuple[nn.Module, nn.Module, nn.Module]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(12, 6), nn.Tanh())
    return trunk, nn.Linear(6, 10), nn.Linear(6, 10)


class Bare(nn.Module):
    """Nothing that the library asks for but outputs, forward and owners."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.one, self.two = parts()
        self.outputs = {"one": Classification(), "two": Classification(label_smoothing=0.1)}

    def forward(self, x):
        feature = self.trunk(x)
        return [self.one(feature), self.two(feature)]

    def owners(self):
        of = {"trunk": {0, 1}, "one": {0}, "two": {1}}
        return {name: frozenset(of[name.partition(".")[0]]) for name, _ in self.named_parameters()}


class NoOwners(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)
        self.outputs = {"one": Classification()}


class Inheriting(Net):
    """The same network, whose owners and samples the library finds."""

    input_size = SIZE

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.one, self.two = parts()
        self.outputs = {"one": Classification(), "two": Classification(label_smoothing=0.1)}

    def forward(self, x):
        feature = self.trunk(x)
        return [self.one(feature), self.two(feature)]


def test_owners_and_samples_are_found():
    net = Inheriting()
    assert net.owners() == Bare().owners()
    assert net.sample(4).shape == (4, *SIZE)
    net.example = torch.full((1, *SIZE), 7.0)
    assert net.sample(3).eq(7).all() and len(net.sample(3)) == 3


def test_an_input_is_asked_for_where_one_is_needed():
    net = Bare()
    with pytest.raises(UserError, match="Bare does not say what its inputs are like; set its `input_size`"):
        training_macs(net)
    net.input_size = SIZE
    assert training_macs(net) == 2 * 12 * 6 + 3 * 2 * 6 * 10  # the trunk reads images, which want no gradient


@pytest.mark.parametrize("make", [Bare, Inheriting])
def test_an_output_costs_the_parameters_that_its_loss_reaches(make):
    counted = offramp.cost(make())
    assert [exit.params for exit in counted.exits] == [TRUNK + HEAD] * 2
    assert counted.params == TRUNK + 2 * HEAD
    flops = 12 * 6 + 6 * 10 if make is Inheriting else None  # a Bare one does not say what it reads
    assert [exit.flops for exit in counted.exits] == [flops] * 2
    assert bool(counted.unknown) == (make is Bare)
    assert counted.flops == (12 * 6 + 2 * 6 * 10 if make is Inheriting else None)


@pytest.mark.parametrize("make", [Bare, Inheriting])
@pytest.mark.parametrize("method", ["joint", "cagrad", "uncertainty", "meta-gf", "dr-mgf"])
def test_it_is_trained_and_opened_again(make, method, tmp_path):
    recipe = Recipe(epochs=1, batch_size=32, train_limit=64, test_limit=32)
    run = offramp.fit(make(), "digits", method, recipe, tmp_path / "run", quiet=True)
    assert list(run.result.outputs) == ["one", "two"]
    again = offramp.Run.open(tmp_path / "run", make())
    assert again.evaluate().outputs == run.result.outputs


@pytest.mark.parametrize(
    ("net", "method", "settings", "message"),
    [
        (
            Bare,
            "separate",
            {},
            "'separate' works on the stages of a MultiExitNet or MultiTaskNet, and Bare has none",
        ),
        (Bare, "dfs", {}, "'dfs' works where a feature forks, .* and Bare has no such fork"),
        (
            Bare,
            "joint",
            {"head_decay": 0.0},
            "Bare has none by that name; set its `heads`",
        ),
        (NoOwners, "joint", {}, r"NoOwners has no owners\(\); inherit from offramp.nets.Net"),
        (
            lambda: nn.Linear(2, 2),
            "joint",
            {},
            "net is a Linear without exits.* make one of it, e.g. by offramp.attach",
        ),
    ],
)
def test_what_is_missing_is_asked_for(net, method, settings, message):
    recipe = Recipe(epochs=1, batch_size=32, train_limit=64, test_limit=32, **settings)
    with pytest.raises(UserError, match=message):
        offramp.fit(net(), "digits", method, recipe, quiet=True)


def compiled(net: nn.Module) -> nn.Module:
    return torch.compile(net, backend="eager")


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (nn.DataParallel, r"net is a DataParallel around a net; give the net inside it, its \.module$"),
        (AveragedModel, r"net is an AveragedModel around a net; give the net inside it, its \.module$"),
        (compiled, r"net is an OptimizedModule around a net; give the net inside it, its \._orig_mod$"),
        (lambda net: nn.DataParallel(compiled(net)), r"its \.module\._orig_mod$"),
        (
            lambda net: nn.DataParallel(nn.Linear(2, 2)),
            r"net is a DataParallel without exits.*offramp\.attach",
        ),
    ],
)
def test_what_is_wrapped_around_a_net_is_told_from_a_backbone(wrap, message):
    with pytest.raises(UserError, match=message):
        offramp.Router(wrap(vgg7(width=4)), offramp.exits.Policy(thresholds=(0.5,) * 5))


def test_a_module_of_an_own_net_may_have_a_wrapper_s_name():
    net = Two({})
    net.module = nn.DataParallel(vgg7(width=4))
    net.owners = lambda: {name: frozenset({0, 1}) for name, _ in net.named_parameters()}
    check_net(net, "net")


def test_the_library_s_nets_are_such_nets():
    net = vgg7(width=4)
    assert issubclass(MultiExitNet, Net) and issubclass(Separate, Net)
    assert list(Separate(net).outputs) == list(net.outputs) == [f"exit {k}" for k in range(1, 7)]


class Two(nn.Module):
    """A net of one's own; its owners are what a test says."""

    def __init__(self, owners, outputs=None):
        super().__init__()
        self.trunk = nn.Linear(3, 4)
        self.ends = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)])
        self.outputs = outputs or {"a": Classification(), "b": Classification()}
        self.said = owners

    def forward(self, x):
        return [end(self.trunk(x).relu()) for end in self.ends]

    def owners(self):
        return self.said(self)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (
            lambda net: {p: frozenset({0, 1}) for p in net.parameters()},
            r"does not name ends.0.bias",
        ),
        (lambda net: {n: {0, 1} for n, _ in net.named_parameters()}, r"owners\(\) returns .*to a frozenset"),
        (lambda net: {n: frozenset({2}) for n, _ in net.named_parameters()}, r"outputs \(0 to 1\)"),
        (lambda net: {n: frozenset({"a"}) for n, _ in net.named_parameters()}, r"outputs \(0 to 1\)"),
        (lambda net: {"trunk.weight": frozenset({0})}, "does not name ends.0.bias"),
    ],
)
def test_owners_that_no_method_could_go_by(said, match):
    with pytest.raises(UserError, match=match):
        offramp.method("pcgrad").bind(Two(said))


def test_outputs_are_tasks_by_name():
    @dataclasses.dataclass
    class Mutable(Task):
        target: str = "label"
        primary = "loss"
        better = "lower"
        loss = counts = metrics = None

    for outputs, match in (
        ([Classification()] * 2, "must map the name of each output to its task"),
        ({"a": Mutable(), "b": Classification()}, "make it a frozen dataclass"),
    ):
        with pytest.raises(UserError, match=match):
            offramp.method("joint").bind(Two(lambda net: owners(net, torch.randn(2, 3)), outputs))


def test_owners_leave_nothing_in_autocast_and_take_nothing_from_it():
    torch.manual_seed(0)
    net = offramp.nets.vgg7(num_classes=5, width=4)
    nn.init.zeros_(net.heads[0][-1].weight)
    x, expected = torch.randn(2, 3, 32, 32), net.owners()
    net.eval()
    with torch.autocast("cpu", torch.bfloat16):
        before = net(x)
        assert net.owners() == expected
        torch.clear_autocast_cache()
        net.owners()
        assert all(torch.equal(a, b) for a, b in zip(before, net(x), strict=True))
    with torch.inference_mode():
        assert net.owners() == expected
