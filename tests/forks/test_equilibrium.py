"""Gradient equilibrium, alone and with Deep Feature Surgery, against gradients scaled by hooks."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nets import SMALL, batch, by_hooks, gradients, losses, small
from torch import Tensor, nn

from offramp import UserError
from offramp.counting import training_macs
from offramp.forks import Equilibrium, Fork, Partition, Place, install, partition, remove
from offramp.forks._gradient_sum import GradientSum
from offramp.forks._lanes import branch, join
from offramp.nets import MultiExitNet

EXACT = {"rtol": 0, "atol": 1e-11}
IMPLEMENTATIONS = ("fused", "split", "cat")
COMPOSITIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "partly": {"beta": 0.3, "own_to_shared": 0.4, "later_to_own": 0.25},
    "all scales": {"scales": "all"},
    "two exits": {"where": [1, 3]},
    "scattered": {"channels": {1: [0, 3, 5]}},
}


def test_gains():
    for n, exit in ((2, 1), (4, 1), (4, 3), (7, 2)):
        head, following = Equilibrium().gains(Place(3, exit, num_exits=n))
        assert head.tolist() == pytest.approx([1 / (n - exit + 1)] * 3, rel=1e-15)
        assert following.tolist() == pytest.approx([(n - exit) / (n - exit + 1)] * 3, rel=1e-15)
        assert head.dtype == torch.float64
    finer = Place(3, exit=1, num_exits=4, coarsest=False)
    assert Equilibrium().gains(finer) is None
    assert Equilibrium(scales="all").gains(finer)[0].tolist() == [0.25] * 3


@pytest.mark.parametrize("scales", ["fine", None, 1, ["all"]])
def test_other_scales_are_refused(scales):
    with pytest.raises(UserError, match=r"^scales is .*, must be coarsest or all$"):
        Equilibrium(scales=scales)


@pytest.mark.parametrize("name", SMALL)
def test_every_exit_reaches_a_stage_with_the_same_weight(name):
    """1 / (n - b + 1) at stage b, and 1 at its head; of a feature with several scales all are scaled."""
    plain = small(name)
    net = install(copy.deepcopy(plain), [Equilibrium(scales="all")])
    n = net.num_exits
    for k, (ours, theirs) in enumerate(zip(losses(net), losses(plain), strict=True), start=1):
        assert torch.equal(ours, theirs)
        expected = gradients(plain, theirs)
        for key, grad in gradients(net, ours).items():
            part, b = key.split(".")[0], int(key.split(".")[1]) + 1
            weight = 1 if part == "heads" else 1 / (n - b + 1)
            torch.testing.assert_close(grad, weight * expected[key], rtol=1e-9, atol=1e-14)
            if b > k:
                assert not grad.any()


@pytest.mark.parametrize("impl", ["fused", "cat"])  # split adds two convolutions, which rounds otherwise
@pytest.mark.parametrize("name", SMALL)
def test_forward_is_the_plain_net_s(name, impl):
    net, (images, _) = small(name), batch()
    plain = copy.deepcopy(net)(images)
    for rules in ([Equilibrium()], [Partition(impl=impl), Equilibrium()]):
        for ours, theirs in zip(install(copy.deepcopy(net), rules)(images), plain, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("scales", ["coarsest", "all"])
@pytest.mark.parametrize("name", SMALL)
def test_gradients_equal_scaling_by_hooks(name, scales):
    plain = small(name)
    net = install(copy.deepcopy(plain), [Equilibrium(scales)])
    for ours, theirs in zip(losses(net), by_hooks(plain, _product(plain, None, scales)), strict=True):
        _assert_same(gradients(net, ours), gradients(plain, theirs))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("options", COMPOSITIONS.values(), ids=COMPOSITIONS)
@pytest.mark.parametrize("name", SMALL)
def test_with_surgery_the_gains_multiply(name, options, impl):
    plain = small(name)
    cut = Partition(impl=impl, **options)
    net = install(copy.deepcopy(plain), [cut, Equilibrium()])
    swapped = install(copy.deepcopy(plain), [Equilibrium(), cut])
    expected = gradients(plain, torch.stack(by_hooks(plain, _product(plain, cut, "coarsest"))).sum())
    for made in (net, swapped):
        _assert_same(gradients(made, torch.stack(losses(made)).sum()), expected)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_one_exit_alone_with_surgery(impl):
    """Every exit but one sends nothing back."""
    plain = small("msdnet_cifar")
    cut = Partition(impl=impl)
    net = install(copy.deepcopy(plain), [cut, Equilibrium("all")])
    for ours, theirs in zip(losses(net), by_hooks(plain, _product(plain, cut, "all")), strict=True):
        _assert_same(gradients(net, ours), gradients(plain, theirs))


@pytest.mark.parametrize("impl", [None, *IMPLEMENTATIONS])
def test_second_derivatives(impl):
    plain = small("vgg7")
    cut = None if impl is None else Partition(impl=impl)
    net = install(copy.deepcopy(plain), [Equilibrium()] if cut is None else [cut, Equilibrium()])

    def second(net: nn.Module, loss: Tensor) -> tuple[Tensor, ...]:
        parameters = list(net.parameters())
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), parameters)

    ours = second(net, torch.stack(losses(net)).sum())
    theirs = second(plain, torch.stack(by_hooks(plain, _product(plain, cut, "coarsest"))).sum())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert max(float(b.abs().max()) for b in theirs) > 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cut", [None, Partition()], ids=["alone", "with surgery"])
def test_autocast(cut, dtype):
    """No further from float64 than hooks are under the same autocast, but for rounding noise."""
    exact = small("vgg7")
    gains = _product(exact, cut, "coarsest")
    plain = copy.deepcopy(exact).float()
    net = install(copy.deepcopy(plain), [Equilibrium()] if cut is None else [cut, Equilibrium()])
    images, labels = batch()

    def flat(net: nn.Module, found: list[Tensor]) -> Tensor:
        grads = gradients(net, torch.stack(found).sum())
        return torch.cat([g.flatten().double() for g in grads.values()])

    truth = flat(exact, by_hooks(exact, gains))
    with torch.autocast("cpu", dtype=dtype):
        scaled, outputs = by_hooks(plain, gains), net(images.float())
    assert {o.dtype for o in outputs} == {dtype}
    theirs = flat(plain, scaled)
    ours = flat(net, [F.cross_entropy(o.double(), labels) for o in outputs])
    assert (ours - truth).norm() <= 1.5 * (theirs - truth).norm() + 1e-3 * truth.norm()


# Dynamo instantiates every autograd.Function that it traces, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "rules", [[Equilibrium()], [Partition(), Equilibrium()]], ids=["alone", "with surgery"]
)
def test_compiles_as_one_graph(rules):
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), nn.Conv2d(4, 4, 3)]
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)) for _ in stages]
    net = install(MultiExitNet(stages, heads).double(), rules)
    images, labels = batch()

    def grads(call: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
        loss = torch.stack([F.cross_entropy(o, labels) for o in call(images)]).sum()
        return list(torch.autograd.grad(loss, list(net.parameters())))

    eager = grads(net)
    torch._dynamo.reset()
    compiled = grads(torch.compile(net, fullgraph=True, backend="aot_eager"))
    torch.testing.assert_close(compiled, eager, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_it_costs_one_scaled_sum_a_fork_and_no_copy(layout):
    """The plain net adds two gradients at every fork; here one operator weighs and adds them."""
    net = small("vgg7").float().to(memory_format=layout)
    images, labels = batch()
    images = images.float().to(memory_format=layout)
    views = "detach alias view view_as expand as_strided reshape _reshape_alias flatten squeeze narrow slice"
    no_work = {f"aten::{name}" for name in f"{views} empty new_empty empty_strided".split()}

    def operators(net: nn.Module) -> Counter[str]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            loss = torch.stack([F.cross_entropy(o, labels) for o in net(images)]).sum()
            torch.autograd.grad(loss, list(net.parameters()))
        return Counter(e.name for e in profile.events() if e.name.startswith("aten::"))

    plain, equal = operators(net), operators(install(net, [Equilibrium()]))
    more = {name: count for name, count in (equal - plain).items() if name not in no_work}
    fewer = {name: count for name, count in (plain - equal).items() if name not in no_work}
    assert more == {"aten::lerp": 5}
    assert sum(fewer.values()) == 5
    assert set(fewer) <= {"aten::add", "aten::add_"}


def test_operations_are_those_of_the_cut_alone():
    net = small("vgg7").float()
    joint = training_macs(net)
    assert training_macs(install(net, [Equilibrium()])) == joint
    cut = training_macs(partition(remove(net)))
    assert training_macs(install(remove(net), [Partition(), Equilibrium()])) == cut < joint


@pytest.mark.parametrize("gains", [(0.25, 0.75), (0.5, 0.25), (1, 1), (2, 1)], ids=str)
def test_equal_gains_for_all_channels(gains):
    """The sum itself is the feature's gradient, in the feature's layout, whoever sends something back."""
    gradient_sum = GradientSum.plan([[float(g)] * 4 for g in gains], axis=1)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    ups = [torch.randn(2, 4, 5, 5, dtype=torch.float64), torch.randn(2, 4, 1, 1, dtype=torch.float64)]
    for used in ((0, 1), (0,), (1,)):
        feature, seen = x * 1, []
        feature.register_hook(
            lambda g, seen=seen: seen.append(g.is_contiguous(memory_format=torch.channels_last))
        )
        lanes = zip(branch(feature, gradient_sum), gradient_sum.live, strict=True)
        readers = [join(feature.detach(), lane, live, 1) for lane, live in lanes]
        (got,) = torch.autograd.grad(sum((readers[r] * ups[r]).sum() for r in used), x)
        expected = sum(gains[r] * ups[r].expand(2, 4, 5, 5) for r in used)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)
        assert seen == [True]


@pytest.mark.parametrize("name", SMALL)
def test_on_and_off_again(name):
    net = small(name)
    kinds, keys = [type(m) for m in net.modules()], list(net.state_dict())
    owners = net.owners()
    install(net, [Equilibrium()])
    layers = [type(m) for part in (net.stages, net.heads) for m in part.modules()]
    assert layers == [type(m) for part in (small(name).stages, small(name).heads) for m in part.modules()]
    assert list(net.state_dict()) == keys
    assert net.owners() == owners
    losses(copy.deepcopy(net))
    assert [type(m) for m in remove(net).modules()] == kinds


def test_no_rules_leave_plain_forks():
    assert [type(fork) for fork in install(small("resnet18"), []).forks] == [Fork] * 3


def test_without_referencing_the_gains_multiply_all_the_same():
    """Like a net whose readers' weights on the other part are zero, with scaled gradients."""
    net = small("vgg7")
    blind = copy.deepcopy(net)
    with torch.no_grad():
        for i in range(net.num_exits - 1):
            head, conv = blind.heads[i][2], blind.stages[i + 1][0]
            half = conv.in_channels // 2
            head.weight[:, :half] = 0
            conv.weight[:, half:] = 0
    install(net, [Partition(reference="zero", where=[1, 2, 3, 4, 5]), Equilibrium()])
    theirs = by_hooks(blind, _product(blind, None, "coarsest"))
    torch.testing.assert_close(losses(net), theirs, **EXACT)
    ours, expected = (
        gradients(net, torch.stack(losses(net)).sum()),
        gradients(blind, torch.stack(theirs).sum()),
    )
    for i in range(net.num_exits - 1):  # the weights that read zeros get no gradient in one net only
        half = net.stages[i][0].out_channels // 2
        expected[f"heads.{i}.2.weight"][:, :half] = 0
        expected[f"stages.{i + 1}.0.weight"][:, half:] = 0
    _assert_same(ours, expected)


def test_features_whose_axis_is_not_certain_can_be_scaled_and_not_split():
    """Equal gains need no channel axis."""
    embed = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Flatten(2))
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(16, 3)) for _ in range(2)]
    net = MultiExitNet([embed, nn.Linear(4, 4)], heads, input_size=(3, 4, 4)).double()
    with pytest.raises(UserError, match=r"axis of the feature of exit 1, \[2, 4, 4\], .*`channel_axis=`"):
        partition(net)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    expected = gradients(net, net(x)[1].sum())
    install(net, [Equilibrium()])
    for key, grad in gradients(net, net(x)[1].sum()).items():
        torch.testing.assert_close(grad, expected[key] * (0.5 if key.startswith("stages.0") else 1), **EXACT)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([Equilibrium(), Equilibrium("all")], "a net takes one Equilibrium, got 2; keep one of them"),
        ([Partition(), Equilibrium(), Partition(0.3)], "a net takes one Partition, got 2"),
        ([Partition(where=[9]), Equilibrium()], "exit 9 cannot be partitioned: choose from 1 to 5"),
    ],
)
def test_what_cannot_be_installed_leaves_the_net_alone(rules, says):
    net = small("vgg7")
    before = [(type(m), set(vars(m))) for m in net.modules()]
    with pytest.raises(UserError) as error:
        install(net, rules)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
    assert [(type(m), set(vars(m))) for m in net.modules()] == before


def test_a_net_with_rules_takes_no_more():
    net = install(small("vgg7"), [Equilibrium()])
    for again in (lambda: partition(net), lambda: install(net, [Equilibrium()])):
        with pytest.raises(UserError, match=r"take them off first with offramp\.forks\.remove"):
            again()
    partition(remove(net))


def _product(
    net: MultiExitNet, cut: Partition | None, scales: str
) -> Callable[[int, int, int], tuple[Tensor, Tensor]]:
    """The gains of equilibrium times those of a partition, from their tables."""
    n = net.num_exits

    def gains(exit: int, finer: int, channels: int) -> tuple[Tensor, Tensor]:
        head = following = torch.ones(channels, dtype=torch.float64)
        if scales == "all" or finer == 0:
            head, following = head / (n - exit + 1), following * (n - exit) / (n - exit + 1)
        if cut is None or exit not in (cut.where or range(1, n)) or (cut.scales != "all" and finer):
            return head, following
        chosen = (cut.channels or {}).get(exit, range(round(cut.beta * channels)))
        shared = torch.tensor([c in chosen for c in range(channels)])
        return (
            torch.where(shared, cut.own_to_shared * head, head),
            torch.where(shared, following, cut.later_to_own * following),
        )

    return gains


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, **EXACT, msg=lambda m, key=key: f"{key}: {m}")
