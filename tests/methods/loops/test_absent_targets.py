"""Batches that lack the targets of some outputs: a loss that is not there trains nothing."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from context_cases import RECIPE, bench
from torch import nn
from torch.func import functional_call

from offramp.data import Batch
from offramp.errors import UserError
from offramp.methods.loops import Progress
from offramp.methods.loops.staged._loss_factors import equal_norms, landscape_rates
from offramp.methods.objectives.divergence import DivergenceDistillation
from offramp.nets import Net
from offramp.tasks import Boxes, Classification
from offramp.tasks.soft_targets import check_soft_targets
from offramp.training._rehearsal import rehearse

PROGRESS = Progress(0, 0.0, RECIPE.lr)
LATER = Progress(1, 0.5, RECIPE.lr)
EVERYTHING = ("color", "box", "shape")
BATCHES = [EVERYTHING, ("box", "shape"), (), ("color",), ("box",), EVERYTHING]


class ThreeHeads(Net):
    """One linear trunk of three outputs with a task each."""

    outputs: ClassVar = {
        "color": Classification(target="color"),
        "box": Boxes(target="box"),
        "shape": Classification(target="shape"),
    }
    input_size = (5,)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(5, 6), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(6, n) for n in (3, 4, 2))
        self.double()

    def forward(self, x):
        feature = self.trunk(x)
        return [head(feature) for head in self.heads]


def batch(number: int, present=EVERYTHING, size: int = 8) -> Batch:
    draw = torch.Generator().manual_seed(number)
    inputs = torch.randn(size, 5, generator=draw, dtype=torch.float64)
    targets = {
        "color": torch.randint(3, (size,), generator=draw),
        "box": torch.rand(size, 4, generator=draw, dtype=torch.float64),
        "shape": torch.randint(2, (size,), generator=draw),
    }
    return Batch(inputs, {name: targets[name] for name in present})


def losses(net, tensors, some: Batch) -> dict[int, torch.Tensor]:
    """Output -> its loss by hand, of the outputs that have a target."""
    outputs = functional_call(net, tensors, (some.inputs,))
    by_hand = {"color": F.cross_entropy, "box": partial(F.smooth_l1_loss, beta=0.1), "shape": F.cross_entropy}
    names = [task.target for task in net.outputs.values()]
    return {
        k: by_hand[name](outputs[k], some.targets[name])
        for k, name in enumerate(names)
        if name in some.targets
    }


def plain_meta_gf(net, rate: float) -> dict[str, torch.Tensor]:
    """An epoch of Meta-GF with a weight per tensor: SGD for each output, then Adam for the mean's weights."""
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    trained = []
    for k in range(3):
        weights, velocity = dict(start), {}
        for number, present in enumerate(BATCHES):
            weights = {n: w.detach().requires_grad_() for n, w in weights.items()}
            terms = losses(net, weights, batch(10 * k + number, present)).items()
            if not terms:
                continue
            sum(loss if j == k else rate * loss for j, loss in terms).backward()
            for n, w in weights.items():
                if w.grad is not None:  # a head without a loss rests
                    grad = w.grad + RECIPE.weight_decay * w.detach()
                    velocity[n] = grad + RECIPE.momentum * velocity[n] if n in velocity else grad
                    weights[n] = w.detach() - RECIPE.lr * velocity[n]
        trained.append({n: w.detach() for n, w in weights.items()})
    owners = {n: [int(n.split(".")[1])] if n.startswith("heads") else [0, 1, 2] for n in start}
    omega = {
        n: torch.ones(3, dtype=torch.float64, requires_grad=True) for n in start if n.startswith("trunk")
    }
    adam = torch.optim.Adam(omega.values(), lr=0.1)

    def fused():
        means = {}
        for n, own in owners.items():
            a = omega[n].sigmoid() if len(own) > 1 else torch.ones(1)
            means[n] = sum(x * trained[k][n] for x, k in zip(a, own, strict=True)) / a.sum()
        return means

    last = fused()
    for number, present in enumerate(BATCHES):
        now = fused()
        terms = losses(net, now, batch(30 + number, present))
        if terms:
            last = now  # that before the last step
            adam.zero_grad()
            sum(terms.values()).backward()
            adam.step()
    return {n: t.detach() for n, t in last.items()}


def test_an_epoch_of_meta_gf_equals_a_plain_reading():
    net = ThreeHeads()
    wanted = plain_meta_gf(ThreeHeads(), 0.1)
    loop = bench(net, "meta-gf", granularity="tensor")
    for phase in range(4):
        loop.begin(phase, PROGRESS)
        for number, present in enumerate(BATCHES):
            found = loop.step(phase, batch(10 * phase + number, present), PROGRESS)
            there = [k for k, task in enumerate(net.outputs.values()) if task.target in present]
            assert list(found.outputs) == there
            assert len(found.values) == len(there)
        loop.end(phase, PROGRESS)
    torch.testing.assert_close(dict(net.named_parameters()), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["joint", "pcgrad", "meta-gf", "dr-mgf", "dr-avgf"])
def test_a_batch_without_any_target_moves_no_weight(name):
    net = ThreeHeads()
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    loop = bench(net, name)
    for phase in range(len(loop.phases)):
        loop.begin(phase, PROGRESS)
        found = loop.step(phase, batch(phase, ()), PROGRESS)
        assert not found.outputs and not len(found.values)
        loop.end(phase, PROGRESS)
    torch.testing.assert_close(dict(net.named_parameters()), before, rtol=1e-12, atol=0)


@pytest.mark.parametrize("present", [(), ("color",)])
def test_outputs_that_the_first_batch_has_no_targets_for_are_not_called_frozen(present):
    net = ThreeHeads()
    net.trunk.requires_grad_(False)
    net.heads[0].requires_grad_(False)
    context = dataclasses.replace(
        bench(net, "joint").context, batches=lambda number, count: iter([batch(0, present)])
    )
    rehearse(context, 8, PROGRESS, "give more")  # the other heads are trained by other batches
    net.requires_grad_(False)
    with pytest.raises(UserError, match="all that the losses reach is frozen"):
        rehearse(context, 8, PROGRESS, "give more")
    net.heads[2].requires_grad_(True)
    weighted = bench(net, "joint", weights=[1, 1, 0]).context
    with pytest.raises(UserError, match="a weight above 0"):
        rehearse(dataclasses.replace(weighted, batches=context.batches), 8, PROGRESS, "give more")


def looking(few, **options):
    """The output training of a loop that looks at these batches only."""
    loop = bench(ThreeHeads(), "dr-mgf", **options)
    context = dataclasses.replace(loop.context, batches=lambda number, count: iter(few))
    loop.training.context = context
    return loop.training


def test_rates_come_from_the_batches_that_have_the_targets():
    """Batches without a target add nothing to the mean; where no batch has one, the rate is the constant."""
    full = [batch(1), batch(2)]
    color = ("color", "shape")
    halves = [batch(1), batch(3, color), batch(2), batch(4, color)]
    rates = [
        landscape_rates(looking(few), 1, LATER, cap=0.5, weights=[1.0] * 3)
        for few in (full, [*full, batch(5, ()), batch(6, ())], halves, [batch(3, color)])
    ]
    assert rates[0] == rates[1]
    assert rates[3] == [0.5] * 3
    own = landscape_rates(looking([batch(3, color)]), 0, LATER, cap=0.5, weights=[1.0] * 3)
    assert own[1] == 0.5


def test_norms_of_absent_outputs_wait():
    """Factor 1 as long as nothing is known; then the last norm that was."""
    training = looking([batch(1, ("color", "shape"))], stage_weights="equal-norms")
    first = equal_norms(training, PROGRESS)
    assert first[1] == 1.0 and first[0] != 1.0
    known = list(training.norms["values"])
    training.context = dataclasses.replace(training.context, batches=lambda number, count: iter([batch(1)]))
    equal_norms(training, LATER)
    both = training.norms["values"]
    assert both[1] > 0
    assert both[0] == pytest.approx(known[0])  # of the same batch


@pytest.mark.parametrize("name", ["kd", "kd+dr-mgf", "kl"])
def test_outputs_of_several_tasks_do_not_teach_each_other(name):
    objective = {"kl": DivergenceDistillation()}.get(name)
    words = "distillation compares the class probabilities of all outputs, and"
    with pytest.raises(UserError, match=f"{words} one has the task Boxes; take another method"):
        objective.bind(ThreeHeads()) if objective else bench(ThreeHeads(), name)
    classes = [Classification(target="color"), Classification(target="shape")]
    with pytest.raises(UserError, match=f"{words} these classify different targets, 'color' and 'shape'; t"):
        check_soft_targets(classes)
