"""WPN and HDKD in the bilevel loop, against steps that are written out with torch's own optimisers."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from context_cases import RECIPE, batches, bench, tiny_net
from torch import nn
from torch.func import functional_call

from offramp.data import Batch
from offramp.errors import UserError
from offramp.methods import Method, method
from offramp.methods.balancers.auto_lambda import AutoLambda
from offramp.methods.loops import Bilevel, Progress
from offramp.methods.loops._weight_gradient import weight_gradient
from offramp.methods.objectives import TaskLoss
from offramp.methods.objectives.dense_distillation import DenseDistillation
from offramp.methods.objectives.sample_weights import SampleWeights, leaving

LR = 0.05


def outputs(net, parameters, batch):
    return functional_call(net, parameters, (batch.inputs,))


def stepped(net, buffers, gradients, *, create=False):
    """Parameters after a step of SGD with momentum and decay, written out; new buffers too."""
    moved, now = {}, {}
    for (name, p), g in zip(net.named_parameters(), gradients, strict=True):
        g = g + RECIPE.weight_decay * p.detach()
        now[name] = g if name not in buffers else RECIPE.momentum * buffers[name] + g
        moved[name] = p.detach() - LR * now[name]
    return moved, now


def leaves_by_hand(logits, ratio):
    """Exit by exit, sample by sample: the surest that are still there."""
    count, samples = len(logits), len(logits[0])
    shares = [ratio**k for k in range(1, count + 1)]
    left, leaves = list(range(samples)), [count - 1] * samples
    for k in range(count - 1):
        sure = logits[k].softmax(1).max(1).values.tolist()
        for n in sorted(left, key=lambda n: -sure[n])[: int(samples * shares[k] / sum(shares))]:
            leaves[n] = k
            left.remove(n)
    return torch.tensor(leaves)


def wpn_by_hand(net, mlp, given, *, strength, center):
    """L2W-DEN's steps with autograd through the whole step, torch's Adam and a plain SGD."""
    adam = torch.optim.Adam(mlp.parameters(), lr=0.01, weight_decay=1e-4)
    buffers: dict[str, torch.Tensor] = {}

    def weighted(parameters, batch):
        each = torch.stack(
            [
                F.cross_entropy(z, batch.targets["label"], reduction="none")
                for z in outputs(net, parameters, batch)
            ],
            1,
        )
        out = mlp(each.detach())
        mean = out.mean(1, keepdim=True) if center == "sample" else out.mean()
        return ((1 + strength * (out - mean)) * each).mean(0).sum()

    for batch in given:
        halves = batch.split(2)
        for first, second in (halves, halves[::-1]):
            own = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
            slopes = torch.autograd.grad(weighted(own, first), [*own.values()], create_graph=True)
            moved, _ = stepped(net, buffers, slopes)
            logits = outputs(net, moved, second)
            leaves, labels = leaves_by_hand([z.detach() for z in logits], 0.75), second.targets["label"]
            meta = torch.stack(
                [
                    F.cross_entropy(logits[k][n : n + 1], labels[n : n + 1])
                    for n, k in enumerate(leaves.tolist())
                ]
            ).mean()
            adam.zero_grad()
            meta.backward()
            adam.step()
            slopes = torch.autograd.grad(weighted(own, first), [*own.values()])
            moved, buffers = stepped(net, buffers, slopes)
            with torch.no_grad():
                for name, p in net.named_parameters():
                    p.copy_(moved[name])


@pytest.mark.parametrize(("strength", "center"), [(0.8, "sample"), (0.3, "batch")])
def test_wpn_is_a_second_derivative_written_out(strength, center):
    options = {"strength": strength, "center": center, "hidden": 9, "meta_lr": 0.01}
    ours, theirs = tiny_net(), tiny_net()
    work = bench(ours, "wpn", **options)
    learned = work.context.bound.learner.learned
    mlp = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 3), nn.Tanh()).double()
    nn.utils.vector_to_parameters(learned.values.clone(), mlp.parameters())
    given = [*batches(0, 0, 3, size=14)]
    ours.train()
    for batch in given:
        work.step(0, batch, Progress(0, 0.0, LR))
    wpn_by_hand(theirs.train(), mlp, given, strength=strength, center=center)
    torch.testing.assert_close(
        learned.values, nn.utils.parameters_to_vector(mlp.parameters()), rtol=0, atol=1e-7
    )
    torch.testing.assert_close(
        dict(ours.named_parameters()), dict(theirs.named_parameters()), rtol=0, atol=1e-9
    )


def test_who_leaves_where():
    torch.manual_seed(0)
    for count, samples, ratio in ((1, 5, 0.75), (3, 20, 0.75), (5, 17, 1.0), (4, 3, 0.5), (2, 1, 2.0)):
        logits = [torch.randn(samples, 4) for _ in range(count)]
        assert torch.equal(leaving(logits, ratio), leaves_by_hand(logits, ratio))


@pytest.mark.parametrize("name", ["wpn", "hdkd", "auto-lambda"])
def test_fixed_weights_count_in_the_outer_loss(name):
    work, factors = bench(tiny_net(), name), [0.5, 2.0, 3.0]
    step = work.context.forward(next(batches(0, 0, 1)), Progress(0, 0.0, LR))
    labels = step.targets["label"]
    each = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in step.outputs])
    weighted = torch.tensor(factors).to(each)[:, None] * each
    if name == "wpn":  # each sample where it leaves
        leaves = leaves_by_hand([z.detach() for z in step.outputs], 0.75)
        expected = weighted[leaves, torch.arange(len(labels))].mean()
        assert len({*leaves.tolist()}) == 3
    else:
        expected = weighted.mean(1).sum()
    torch.testing.assert_close(work.context.bound.learner.outer(step, factors), expected)


def test_the_seed_reaches_the_network():
    """Two runs of one seed begin alike, whatever was drawn before, and those of two seeds do not."""
    one, same, other = (SampleWeights(hidden=3).bind(tiny_net(), seed).learned.values for seed in (4, 4, 5))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_weights_of_samples_are_around_1():
    """The perturbations have the mean 0 over a sample's exits, or over the batch, and are bounded."""
    for center in ("sample", "batch"):
        bound = bench(tiny_net(), "wpn", center=center).context.bound.learner
        weights = bound.weights(torch.rand(8, 3, dtype=torch.float64))
        deviations = (weights - 1).mean(1) if center == "sample" else (weights - 1).mean()
        assert deviations.abs().max() < 1e-12 and 1e-3 < (weights - 1).abs().max() <= 2 * 0.8


def test_the_slope_of_hdkds_weights_is_that_of_autograd_through_the_step():
    work = bench(tiny_net(), "hdkd", held_out=0, weight_lr=0.01)
    net, learned = work.context.net.train(), work.context.bound.learner.learned
    weights = learned.values.clone().requires_grad_()
    assert len(weights) == 3 + 3 * 2 // 2
    first, second = next(batches(0, 0, 1)), next(work.context.outer(0))
    own = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
    logits, labels = outputs(net, own, first), first.targets["label"]
    total = sum(w * F.cross_entropy(z, labels) for w, z in zip(weights, logits, strict=False))
    for w, (k, j) in zip(weights[3:], itertools.combinations(range(3), 2), strict=True):
        taught = -((logits[j].detach() / 3).softmax(1) * (logits[k] / 3).log_softmax(1)).sum(1).mean()
        total = total + w * 9 * taught
    moved, _ = stepped(net, {}, torch.autograd.grad(total, [*own.values()], create_graph=True))
    outer = sum(F.cross_entropy(z, second.targets["label"]) for z in outputs(net, moved, second))
    (slope,) = torch.autograd.grad(outer, weights)
    adam = torch.optim.Adam([weights], lr=0.01)
    weights.grad = slope
    adam.step()
    work.step(0, first, Progress(0, 0.0, LR))
    torch.testing.assert_close(learned.values, weights.detach().clamp(min=0), rtol=1e-9, atol=0)


def test_a_weight_of_hdkd_stops_at_0():
    work = bench(tiny_net(), "hdkd", held_out=0, weight_lr=0.2)
    work.context.net.train()
    for batch in batches(0, 0, 6):
        work.step(0, batch, Progress(0, 0.0, LR))
    values = work.context.bound.learner.learned.values
    assert values.min() == 0 and values.max() > 0.1


def test_teachers_learn_nothing_and_without_pairs_it_is_deep_supervision():
    torch.manual_seed(0)
    for teacher_start in (0.0, 0.5):
        work = bench(tiny_net(), "hdkd", label_start=1.0, teacher_start=teacher_start)
        bound, net = work.context.bound, work.context.net.train()
        step = work.context.forward(next(batches(0, 0, 1)), Progress(0, 0.0, LR))
        losses = bound.losses_of(step)
        plain = TaskLoss()(step)
        for k, loss in enumerate(losses):
            reached = torch.autograd.grad(loss, step.outputs, retain_graph=True, allow_unused=True)
            assert [j for j, g in enumerate(reached) if g is not None] == [k]
        if teacher_start == 0:
            torch.testing.assert_close(losses, plain)
            for one, other in zip(losses, plain, strict=True):
                found, expected = (
                    torch.autograd.grad(loss, [*net.parameters()], retain_graph=True, materialize_grads=True)
                    for loss in (one, other)
                )
                torch.testing.assert_close(found, expected)
        else:
            torch.testing.assert_close(losses[-1], plain[-1])  # which nobody teaches
            assert all(loss > own for loss, own in zip(losses[:-1], plain[:-1], strict=True))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hdkd", {"label_start": 1, "teacher_start": 0}),
        ("auto-lambda", {"start": 1, "least": 0}),
        ("wpn", {"hidden": 3, "ratio": 1e200}),
        ("wpn", {"hidden": 3, "ratio": 1e-200}),
    ],
)
def test_whole_numbers_and_numbers_at_the_edge(name, options):
    work = bench(tiny_net(), name, **options)
    work.context.net.train()
    work.step(0, next(batches(0, 0, 1)), Progress(0, 0.0, LR))
    assert work.context.bound.learner.learned.steps.max() > 0


def test_a_process_without_labels_adds_nothing_to_the_slope_of_wpn():
    work = bench(tiny_net(), "wpn", hidden=3)
    work.context.net.train()
    given, other = batches(0, 0, 2)
    step = work.context.forward(Batch(given.inputs, {}), Progress(0, 0.0, LR))
    theirs = torch.tensor([6.0, 6, 6, 1, 1, 1, 6])  # another process has labels: weights, presence, samples
    step = dataclasses.replace(step, average=lambda means: (means + theirs.to(means)) / 2, processes=2)
    assert step.present == [0, 1, 2]
    optimizer = work.optimizer.optimizer
    found = weight_gradient(work.context, optimizer, step, other, Progress(0, 0.0, LR), number=0)
    assert torch.equal(found, torch.zeros_like(work.context.bound.learner.learned.values))


def test_what_cannot_be():
    for name, options, words in (
        ("hdkd", {"temperature": 0}, "temperature is 0"),
        ("hdkd", {"teacher_start": -1}, "teacher_start is -1"),
        ("hdkd", {"held_out": 1}, "held_out is 1"),
        ("wpn", {"strength": -1}, "strength is -1"),
        ("wpn", {"center": "exit"}, "center is 'exit'"),
        ("wpn", {"hidden": 0}, "hidden is 0"),
        ("wpn", {"ratio": 0}, "ratio is 0"),
        ("wpn", {"every": 0}, "every is 0"),
        ("auto-lambda", {"outer": "thirds"}, "outer is 'thirds'"),
        ("auto-lambda", {"primary": []}, "primary is"),
        ("auto-lambda", {"least": 0.2}, "least is 0.2"),
        ("auto-lambda", {"scaling": "mean"}, "scaling is 'mean'"),
        ("auto-lambda", {"start": 0}, "start is 0"),
        ("auto-lambda", {"least": -1e300}, "least is -1e\\+300, must be a number from -1e30"),
        ("hdkd", {"temperature": 1e300}, "temperature is 1e\\+300"),
        ("kd+hdkd", {}, "'kd' and 'hdkd' each bring their own objective"),
        ("wpn+auto-lambda", {}, "each bring their own loop"),
        ("dwa+hdkd", {}, "'dwa' has nothing to balance"),
    ):
        with pytest.raises(UserError, match=words):
            method(name, options)
    with pytest.raises(UserError, match=r"no output 'exit 9' .did you mean 'exit ."):
        bench(tiny_net(), "auto-lambda", primary="exit 9")
    with pytest.raises(UserError, match="AutoLambda learns weights in a bilevel loop"):
        Method("mine", "", "", {"balancer": AutoLambda()})
    with pytest.raises(UserError, match="and here 0 learn any"):
        Method("mine", "", "", {"loop": Bilevel()})
    with pytest.raises(UserError, match="and here 2 learn any"):
        parts = {"objective": DenseDistillation(), "balancer": AutoLambda(), "loop": Bilevel()}
        Method("mine", "", "", parts)
    with pytest.raises(UserError, match=r"takes a virtual step .* use offramp\.fit"):
        method("auto-lambda").bind(tiny_net())
