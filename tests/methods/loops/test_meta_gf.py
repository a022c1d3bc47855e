"""Meta-GF against a plain reading, and the options that its authors' scripts differ in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from context_cases import RECIPE, batches, bench, run_epoch, tiny_net
from torch.func import functional_call

from offramp.methods.loops import Progress
from offramp.nets import create


def plain_epoch(net, owners, omega, *, heed, weigh, count, velocity):
    """One epoch: stages by hand-written SGD, then Adam on omega alone. Returns omega before its last step."""
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    buffers = {n: b.clone() for n, b in net.named_buffers()}
    left, stats = [], []
    for k in range(net.num_exits):
        w, b = dict(start), {n: t.clone() for n, t in buffers.items()}
        for batch in batches(0, k, count):
            images, targets = batch.inputs, batch.targets["label"]
            w = {n: t.detach().requires_grad_() for n, t in w.items()}
            outputs = functional_call(net, w | b, (images,))
            losses = [F.cross_entropy(z, targets) for z in outputs]
            sum(loss if j == k else heed * loss for j, loss in enumerate(losses)).backward()
            for n, t in w.items():
                grad = t.grad + RECIPE.weight_decay * t.detach()
                velocity[k][n] = grad + RECIPE.momentum * velocity[k].get(n, 0)
            w = {n: t.detach() - RECIPE.lr * velocity[k][n] for n, t in w.items()}
        left.append(w)
        stats.append(b)

    def fuse():
        found = {}
        for name, own in owners.items():
            a = [weigh(omega[name, k]) for k in own]
            over = [x.reshape([*x.shape, *[1] * (start[name].dim() - x.dim())]) for x in a]
            found[name] = sum(x * left[k][name] for x, k in zip(over, own, strict=True)) / sum(over)
        return found

    scratch = {n: b.clone() for n, b in buffers.items()}
    optimizer = torch.optim.Adam(omega.values(), lr=0.1)
    for batch in batches(0, net.num_exits, count):
        images, targets = batch.inputs, batch.targets["label"]
        fused = fuse()
        optimizer.zero_grad()
        sum(F.cross_entropy(z, targets) for z in functional_call(net, fused | scratch, (images,))).backward()
        optimizer.step()
    return {n: t.detach() for n, t in fused.items()}


@pytest.mark.parametrize("granularity", ["channel", "tensor", "connection"])
def test_an_epoch_equals_a_plain_reading(granularity):
    ours, theirs = tiny_net(), tiny_net()
    work = bench(ours, "meta-gf", granularity=granularity)
    parameters = dict(theirs.named_parameters())
    owners = {n: work.owners[n] for n in parameters}
    last = theirs.num_exits - 1
    omega = {}
    for name, own in owners.items():
        for k in own:
            if granularity == "channel":
                first, shape = 5.0 if k == last else 1.0, parameters[name].shape[:1]
            elif granularity == "connection":  # kernels, and elements of what has none
                shape = parameters[name].shape
                first, shape = 0.0, shape[:2] if len(shape) == 4 else shape
            else:
                first, shape = 1.0, ()
            omega[name, k] = torch.full(shape, first, dtype=torch.float64, requires_grad=True)
    weigh = (lambda w: torch.exp(0.1 * w)) if granularity == "channel" else torch.sigmoid
    theirs.train()
    wanted = plain_epoch(
        theirs, owners, omega, heed=0.1, weigh=weigh, count=6, velocity=[{} for _ in range(3)]
    )
    run_epoch(work, 0, 6)
    torch.testing.assert_close(
        {n: p.detach() for n, p in ours.named_parameters()}, wanted, rtol=0, atol=1e-10
    )


def test_the_variables_go_back_by_a_share_of_their_way():
    net = tiny_net()
    work = bench(net, "meta-gf", ema=0.9)
    run_epoch(work, 0, 1)
    far = bench(tiny_net(), "meta-gf", ema=0.0)
    run_epoch(far, 0, 1)
    for name, value in work.mean.values().items():
        first = torch.tensor([5.0 if k == 2 else 1.0 for k in work.shared[name]])
        first = first.double().reshape(-1, *[1] * (value.dim() - 1))
        torch.testing.assert_close(value, 0.9 * first + 0.1 * far.mean.values()[name])


def test_frozen_it_learns_in_the_first_epoch_only():
    work = bench(tiny_net(), "meta-gf", frozen=True)
    run_epoch(work, 0, 2)
    after = work.mean.values()
    run_epoch(work, 1, 2)
    torch.testing.assert_close(work.mean.values(), after, rtol=0, atol=0)
    free = bench(tiny_net(), "meta-gf")
    run_epoch(free, 0, 2)
    run_epoch(free, 1, 2)
    assert any((free.mean.values()[n] - v).abs().max() > 1e-3 for n, v in after.items())


def test_published_nets_have_rates_of_their_own():
    works = [bench(create("vgg_sdn", num_classes=3, width=1), "meta-gf", ramp=ramp) for ramp in (False, True)]
    factors, ramped = (work.options.factors(work.training, 2, Progress(1, 0.5, 0.1)) for work in works)
    assert factors == pytest.approx([0.3, 0.06, 1.0, 0.06, 0.075, 0.09, 0.1])
    # under the ramp all of them carry the coefficient of the stage's own exit: min(.45, .01 + .45 e / E)
    assert ramped == pytest.approx([0.235 * f for f in factors])


def test_sharp_weights_do_not_overflow():
    net = tiny_net()
    work = bench(net, "meta-gf", sharpness=1e4)  # exp of it is no number
    run_epoch(work, 0, 2)
    assert all(bool(p.isfinite().all()) for p in net.parameters())
