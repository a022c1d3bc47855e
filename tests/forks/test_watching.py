"""Whoever asks for the gradient of a feature gets all of it, or one line that says why not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from handing import detached, handed
from nets import batch, small
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from offramp import UserError
from offramp.forks import partition
from offramp.forks.feature import cut_of

MASK = [1, 1, 0, 0, 0]
LATE = r"^the gradient of the feature of exit 1 was asked for after .* impl=cat$"


def conv(x: Tensor) -> Tensor:
    """Reads the cut."""
    return F.conv2d(x, torch.linspace(-1, 1, 3 * x.shape[1] * 4).double().reshape(3, x.shape[1], 2, 2))


def linear(x: Tensor) -> Tensor:
    return F.linear(x, torch.linspace(-1, 1, 3 * x.shape[1]).double().reshape(3, x.shape[1]))


BETWEEN = {
    "nothing": conv,
    "relu": lambda x: conv(F.relu(x)),
    "two": lambda x: conv(F.avg_pool2d(F.relu(x), 2)),
    "pool": lambda x: conv(F.max_pool2d(x, 2)),
    "cat": lambda x: conv(torch.cat([F.relu(x), x], 1)),
    "add": lambda x: conv(x + F.relu(x)),
    "pad": lambda x: conv(F.pad(x, (1, 1))),
    "mean": lambda x: linear(x.mean((2, 3))),
    "global pooling": lambda x: linear(F.adaptive_avg_pool2d(x, 1).flatten(1)),
    "flatten": lambda x: linear(x.flatten(1)),
    "view": lambda x: linear(F.relu(x).view(len(x), -1)),
    "several ways": lambda x: conv(F.relu(x)).mean((2, 3)) + linear(x.mean((2, 3))) + x.square().sum(),
    "a sum in a loop": lambda x: conv(sum((F.relu(x) for _ in range(30)), x)),
    "no reader": lambda x: F.batch_norm(F.relu(x), None, None, training=True),
    "a view": lambda x: conv(x[:, :4]),
}


def _backward_inputs(y: Tensor, x: Tensor) -> Tensor:
    y.backward(inputs=[x])
    return x.grad


def _backward_one_input(y: Tensor, x: Tensor) -> Tensor:
    torch.autograd.backward(y, inputs=x)
    return x.grad


def _hooked(y: Tensor, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    x.register_hook(seen.append)
    y.backward()
    return seen[0]


def _retained(y: Tensor, x: Tensor) -> Tensor:
    x.retain_grad()
    y.backward()
    return x.grad


def _node_hook(y: Tensor, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    x.grad_fn.register_prehook(lambda grads: seen.append(grads[0]))
    y.backward()
    return seen[0]


WAYS = {
    "grad": lambda y, x: torch.autograd.grad(y, x)[0],
    "grad of several": lambda y, x: torch.autograd.grad([y, x.sum()], [x])[0] - 1,
    "grad of an edge": lambda y, x: torch.autograd.grad(y, get_gradient_edge(x))[0],
    "backward(inputs=)": _backward_inputs,
    "autograd.backward": _backward_one_input,
    "register_hook": _hooked,
    "retain_grad": _retained,
    "hook on the node": _node_hook,
}


def feature(hand) -> Tensor:
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return hand(x.requires_grad_() * 1, MASK)


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", BETWEEN)
def test_a_late_question_is_answered_in_full_or_refused(name, way, split):
    body = BETWEEN[name]
    x = feature(lambda x, mask: handed(x, mask, split=split))
    y = body(x).square().sum()
    if name in ("no reader", "a view"):
        whole = feature(detached)
        torch.testing.assert_close(way(y, x), way(body(whole).square().sum(), whole), rtol=0, atol=1e-11)
        return
    with pytest.raises(UserError, match=LATE) as error:
        way(y, x)
    assert "\n" not in str(error.value)


EARLY = {
    "register_hook": (lambda x, seen: x.register_hook(seen.append), lambda x, seen: seen[0]),
    "retain_grad": (lambda x, seen: x.retain_grad(), lambda x, seen: x.grad),
    "edge": (lambda x, seen: seen.append(get_gradient_edge(x)), None),
}


@pytest.mark.parametrize("when", ["before", "between"])
@pytest.mark.parametrize("way", EARLY)
@pytest.mark.parametrize("name", BETWEEN)
def test_an_early_question_is_answered_in_full(name, way, when):
    """Also where something has been made of the feature, but no layer has read it yet."""
    ask, answer = EARLY[way]

    def run(hand):
        x, seen = feature(hand), []
        made = [F.relu(x), torch.cat([x, x], 1), x.mean((2, 3))] if when == "between" else []
        ask(x, seen)
        y = BETWEEN[name](x).square().sum()
        for one in made:
            y = y + (linear(one) if one.dim() == 2 else conv(one)).square().sum()
        if answer is None:
            return torch.autograd.grad(y, seen)[0]
        y.backward()
        return answer(x, seen)

    torch.testing.assert_close(run(handed), run(detached), rtol=0, atol=1e-10)


def test_what_was_made_of_a_feature_may_be_watched_though_the_feature_was_read():
    def run(hand):
        x = feature(hand)
        y, seen = conv(x), []
        pooled = F.avg_pool2d(x, 2)
        pooled.register_hook(seen.append)
        (y.square().sum() + conv(pooled).square().sum()).backward()
        return seen[0]

    torch.testing.assert_close(run(handed), run(detached), rtol=0, atol=1e-11)


def test_a_late_question_about_what_was_made_of_a_feature_is_refused():
    x = feature(handed)
    rectified = F.relu(x)
    y = conv(F.avg_pool2d(rectified, 2)).sum()
    with pytest.raises(UserError, match=LATE):
        torch.autograd.grad(y, rectified)


def test_twice_asked_early_is_twice_answered():
    x, seen = feature(handed), []
    x.register_hook(seen.append)
    x.retain_grad()
    x.register_hook(seen.append)
    assert cut_of(x) is None
    conv(x).sum().backward()
    assert len(seen) == 2
    torch.testing.assert_close(x.grad, seen[0], rtol=0, atol=0)


@pytest.mark.parametrize("exit", [1, 2])
@pytest.mark.parametrize("name", ["vgg7", "resnet18", "msdnet_cifar"])
def test_the_gradient_of_what_a_head_reads(name, exit):
    """As a saliency map asks for it: kept by a hook on the head, differentiated after the pass."""

    def saliency(impl: str) -> Tensor:
        net, (images, _) = partition(small(name), impl=impl), batch()
        kept: list[Tensor] = []

        def keep(module: nn.Module, args: tuple) -> None:
            kept.append(args[0][-1] if isinstance(args[0], tuple) else args[0])

        net.heads[exit - 1].register_forward_pre_hook(keep)
        score = net(images)[exit - 1][:, 0].sum()
        return torch.autograd.grad(score, kept[0])[0]

    wanted = saliency("cat")
    try:
        torch.testing.assert_close(saliency("fused"), wanted, rtol=0, atol=1e-11)
    except UserError as error:
        assert f"the gradient of the feature of exit {exit} was asked for after" in str(error)
