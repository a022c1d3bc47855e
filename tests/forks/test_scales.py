"""Features of several scales: tuples, named tuples, lists and dicts of Tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import offramp
from offramp.forks import Equilibrium, install, partition
from offramp.forks.scales import scales_of, with_scales
from offramp.methods.combiners.jacobian.exit_graph import levels_of
from offramp.nets import MultiExitNet


class Pyramid(NamedTuple):
    fine: Tensor
    coarse: Tensor


KINDS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda fine, coarse: (fine, coarse),
    "named tuple": Pyramid,
    "list": lambda fine, coarse: [fine, coarse],
    "dict": lambda fine, coarse: {"fine": fine, "coarse": coarse},
    "ordered dict": lambda fine, coarse: OrderedDict(fine=fine, coarse=coarse),
}


def taken(feature: Any) -> tuple[Tensor, Tensor]:
    """The two scales, as a layer asks for them that knows which kind it is given."""
    if isinstance(feature, Mapping):
        return feature["fine"], feature["coarse"]
    return (feature.fine, feature.coarse) if isinstance(feature, Pyramid) else (feature[0], feature[1])


class Stage(nn.Module):
    def __init__(self, kind: Callable, fine: int, coarse: int) -> None:
        super().__init__()
        self.kind, self.fine, self.coarse = kind, nn.Conv2d(fine, 4, 1), nn.Conv2d(coarse, 6, 1)

    def forward(self, x: Any) -> Any:
        fine, coarse = (x, x[:, :, ::2, ::2]) if isinstance(x, Tensor) else taken(x)
        return self.kind(self.fine(fine), self.coarse(coarse))


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Linear(4, 3), nn.Linear(6, 3)

    def forward(self, x: Any) -> Tensor:
        fine, coarse = taken(x)
        return self.fine(fine.mean((2, 3))) + self.coarse(coarse.mean((2, 3)))


def build(kind: str) -> MultiExitNet:
    torch.manual_seed(0)
    make = KINDS[kind]
    stages = [Stage(make, 3, 3), Stage(make, 4, 6), Stage(make, 4, 6)]
    return MultiExitNet(stages, [Head() for _ in stages], input_size=(3, 8, 8)).double()


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradients(net: MultiExitNet) -> list[Tensor]:
    return list(
        torch.autograd.grad(sum(z.square().sum() for z in net(images())), list(net.parameters()))  # type: ignore
    )


RULES = {
    "fused": lambda net: partition(net, scales="all"),
    "coarsest": lambda net: partition(net),
    "split": lambda net: partition(net, impl="split"),
    "cat": lambda net: partition(net, impl="cat"),
    "equilibrium": lambda net: install(net, [Equilibrium()]),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tuple"])
def test_all_kinds_train_as_a_tuple_does(kind, rule):
    for ours, theirs in zip(gradients(rule(build(kind))), gradients(rule(build("tuple"))), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_count_and_are_owned_as_a_tuple_is(kind):
    net, plain = partition(build(kind)), partition(build("tuple"))
    assert net.channel_axes() == plain.channel_axes() == [(1, 1), (1, 1)]
    assert net.owners() == plain.owners()
    assert offramp.cost(net) == offramp.cost(plain)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_that_keeps_the_trunk_keeps_its_kind(kind):
    net = partition(build(kind))
    kept = net(images(), keep=True)
    model = net.stages[0](images())
    assert [type(x) for x in kept.trunk] == [type(model)] * 2
    for ours, theirs in zip(kept.outputs, net(images()), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_may_be_taken_stage_by_stage(kind):
    """As combiners do, which cut the graph at the trunk."""
    net = partition(build(kind), scales="all")
    kept = net(images(), keep=True)
    loss, parameters = kept.outputs[-1].square().sum(), list(net.stages[0].parameters())
    wanted = torch.autograd.grad(loss, parameters, retain_graph=True)
    first, second = levels_of(kept.trunk)
    grads = torch.autograd.grad(loss, second, retain_graph=True)
    grads = torch.autograd.grad(second, first, grads, retain_graph=True)
    for ours, theirs in zip(torch.autograd.grad(first, parameters, grads), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_a_feature_is_taken_apart_and_put_together():
    fine, coarse = torch.zeros(1), torch.ones(1)
    for make in KINDS.values():
        feature = make(fine, coarse)
        assert scales_of(feature) == (fine, coarse)
        swapped = with_scales(feature, (coarse, fine))
        assert type(swapped) is type(feature)
        assert taken(swapped) == (coarse, fine)
    assert scales_of(fine) == (fine,)
    assert with_scales(fine, (coarse,)) is coarse
