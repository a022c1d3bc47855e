"""Windows against the authors' way: blocks that run again on detached inputs."""

import pytest
import torch
import torch.nn.functional as F
from jacobian_cases import CLASSES, PLAIN, apart, batch, build, forward, losses_of
from steps import exit_step
from torch import nn

from offramp.errors import UserError
from offramp.forks import partition
from offramp.methods.combiners import Backward
from offramp.methods.combiners.windows import WINDOWS, Windows, first_blocks, mask
from offramp.nets import MultiExitNet


def detached(feature):
    return tuple(t.detach() for t in feature) if isinstance(feature, tuple) else feature.detach()


def gradients(net):
    return {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}


def repeated(net, images, targets, window):
    """One loss after the other: run the net up to its window, cut, and run the window's blocks again."""
    net.zero_grad()
    for k, first in enumerate(first_blocks(window, net.num_exits)):
        x = images
        for b in range(k + 1):
            if b == first and b > 0:
                x = detached(x)
            to_head = x = net.stages[b](x)
            if b < len(net.forks):
                to_head, x = net.forks[b](apart(x))
        loss = (1 + 2 * k) * F.cross_entropy(net.heads[k](to_head), targets)
        loss.backward()
    return gradients(net)


def windowed(net, images, targets, window, *, trunk=True, backward=PLAIN):
    net.zero_grad()
    step = forward(net, images, targets, trunk=trunk)
    Windows(window=window).bind(net)(losses_of(step), step, backward)
    return gradients(net)


def assert_same(found, expected):
    for name, grad in expected.items():
        assert (found[name] is None) == (grad is None), name
        if grad is not None:
            assert torch.allclose(found[name], grad, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", ["vgg7", "resnet18", "msdnet", "attached"])
def test_gradients_are_those_of_the_repeated_blocks(name, window):
    net = build(name).double().eval()  # in train mode the repeated blocks would differ in their statistics
    images, targets = batch(name, net)
    assert_same(windowed(net, images, targets, window), repeated(net, images, targets, window))


def test_in_train_mode_too_where_nothing_has_statistics():
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(7)]
    net = MultiExitNet(stages, [nn.Linear(6, CLASSES) for _ in range(7)], input_size=(6,)).double()
    images, targets = torch.randn(4, 6).double(), torch.tensor([0, 1, 2, 3])
    for window in WINDOWS:
        assert_same(windowed(net, images, targets, window), repeated(net, images, targets, window))


def test_statistics_are_updated_once():
    net = build("vgg7")
    windowed(net, *batch("vgg7", net), "overlap-3-final")
    assert {int(b) for n, b in net.named_buffers() if n.endswith("num_batches_tracked")} == {1}


def test_the_masks_by_hand():
    assert mask("local", 3) == [[True, False, False], [False, True, False], [False, False, True]]
    assert first_blocks("grouping", 7) == [0, 0, 0, 3, 3, 3, 3]  # {1, 2, 3} and {4, ..., 7}
    assert first_blocks("overlap-3", 5) == [0, 0, 0, 1, 2]
    assert first_blocks("overlap-3-final", 5) == [0, 0, 0, 1, 0]
    reach = mask("overlap-3-final", 7)
    blocks = [sum(reach[k][b] for k in range(7)) for b in range(7)]
    assert blocks == [4, 4, 4, 4, 3, 2, 1]  # losses that train each block


@pytest.mark.parametrize("window", WINDOWS)
def test_each_loss_stays_in_its_window(window):
    """The mask, seen from the gradients: change one loss and see which blocks notice."""
    net = build("vgg7").double().eval()
    images, targets = batch("vgg7", net)
    combine = Windows(window=window)

    def grads(louder):
        net.zero_grad()
        step = forward(net, images, targets)
        losses = losses_of(step)
        combine([loss * (3 if k == louder else 1) for k, loss in enumerate(losses)], step, PLAIN)
        return gradients(net)

    plain = grads(None)
    for k, row in enumerate(mask(window, net.num_exits)):
        found = grads(k)
        for b, reached in enumerate(row):
            moved = any(
                not torch.allclose(found[n], plain[n], rtol=1e-9)
                for n in plain
                if n.startswith(f"stages.{b}.")
            )
            assert moved == reached, (k, b)
            head = any(not torch.equal(found[n], plain[n]) for n in plain if n.startswith(f"heads.{b}."))
            assert head == (b == k)


def test_only_the_trunk_of_the_net_is_needed_not_that_of_the_step():
    net = build("vgg7").double()
    images, targets = batch("vgg7", net)
    a, b = (windowed(net, images, targets, "overlap-3", trunk=trunk) for trunk in (True, False))
    assert_same(a, b)


def test_it_accumulates_scales_and_skips_frozen_parameters():
    net = build("vgg7").double().eval()
    net.stages[1][0].weight.requires_grad_(False)
    images, targets = batch("vgg7", net)
    once = windowed(net, images, targets, "overlap-3", backward=Backward(scale=8.0))
    plain = windowed(net, images, targets, "overlap-3")
    assert_same(once, {n: None if g is None else 8 * g for n, g in plain.items()})
    assert once["stages.1.0.weight"] is None
    step = forward(net, images, targets)
    Windows().bind(net)(losses_of(step), step, PLAIN)
    assert_same(gradients(net), {n: None if g is None else 2 * g for n, g in plain.items()})


def test_windows_and_deep_feature_surgery_multiply():
    """A window cuts between blocks, DFS between channels: what both let through is left."""
    net, other = (build("vgg7").double().eval() for _ in range(2))
    partition(net)
    partition(other, impl="cat")  # features of its forks are plain tensors, which the repeated way can cut
    images, targets = batch("vgg7", net)
    for window in WINDOWS:
        assert_same(windowed(net, images, targets, window), repeated(other, images, targets, window))


def test_what_the_objective_learns_gets_its_gradient():
    net = build("vgg7").double().eval()
    images, targets = batch("vgg7", net)
    factor = torch.full((net.num_exits,), 2.0).double().requires_grad_()
    step = forward(net, images, targets)
    losses = losses_of(step)
    Windows(window="local").bind(net)([loss * f for loss, f in zip(losses, factor, strict=True)], step, PLAIN)
    assert torch.allclose(factor.grad, torch.stack(losses).detach())


def test_the_processes_average():
    net = build("vgg7").double().eval()
    images, targets = batch("vgg7", net)
    halved = windowed(net, images, targets, "overlap-3", backward=Backward(average=lambda t: t.mul_(0.5)))
    assert_same(halved, {n: g / 2 for n, g in windowed(net, images, targets, "overlap-3").items()})


def test_what_it_refuses():
    with pytest.raises(UserError, match=r"window is .*did you mean 'overlap-3'"):
        Windows(window="overlap3")
    with pytest.raises(UserError, match="Decoders has none"):
        Windows().bind(build("decoders"))
    shared = nn.Linear(4, 4)
    tied = MultiExitNet([nn.Sequential(shared), nn.Sequential(shared)], [nn.Linear(4, 2), nn.Linear(4, 2)])
    with pytest.raises(UserError, match="share a parameter"):
        Windows().bind(tied)


def test_a_step_by_hand():
    """Two blocks, two losses, one weight each: by the chain rule."""
    net = MultiExitNet(
        [nn.Linear(1, 1, bias=False) for _ in range(2)], [nn.Identity(), nn.Identity()]
    ).double()
    a, b = (stage.weight for stage in net.stages)
    with torch.no_grad():
        a.fill_(3.0), b.fill_(5.0)
    x = torch.tensor([[2.0]]).double()
    for window, of_a in (("local", 2.0), ("grouping", 2.0), ("overlap-3", 12.0)):  # 2, and 2 * 5 with loss 2
        net.zero_grad()
        outputs = net(x)
        Windows(window=window).bind(net)([z.sum() for z in outputs], exit_step(net, outputs, x), PLAIN)
        assert a.grad.item() == of_a
        assert b.grad.item() == 6.0
