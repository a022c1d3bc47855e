"""Small nets, a batch, and Deep Feature Surgery written out by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.nets import MultiExitNet, create

SMALL = {
    "vgg7": {"num_classes": 5, "width": 8},
    "resnet18": {"num_classes": 5, "width": 8},
    "msdnet_cifar": {"num_classes": 5, "growth": 4, "channels": 4},
}


def small(name: str) -> MultiExitNet:
    torch.manual_seed(0)
    return create(name, **SMALL[name]).double()


def batch(size: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, 3, 32, 32, generator=generator, dtype=torch.float64)
    return images, torch.arange(size) % 5


def losses(net: nn.Module) -> list[Tensor]:
    images, labels = batch()
    return [F.cross_entropy(logits, labels) for logits in net(images)]


def gradients(net: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Gradient of every parameter; zeros where none arrives."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {
        n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, grads, strict=True)
    }


def by_hand(net: MultiExitNet, shared: dict[int, Tensor], own_to_shared: bool = False) -> list[Tensor]:
    """The losses of a plain net under DFS, with a detached copy at every edge that is cut.

    Args:
        net: A net with plain forks. Of a feature with several scales the last is partitioned.
        shared: Exit (from 1) -> bool mask of the shared channels.
        own_to_shared: Whether the own loss reaches the shared channels.
    """
    images, labels = batch()
    x, found = images, []
    for exit, (stage, head) in enumerate(zip(net.stages, net.heads, strict=True), start=1):
        x = stage(x)
        to_head = x
        if exit in shared:
            mask = shared[exit].reshape(1, -1, 1, 1)
            *finer, f = x if isinstance(x, tuple) else (x,)
            of_head = f if own_to_shared else torch.where(mask, f.detach(), f)
            of_next = torch.where(mask, f, f.detach())
            several = isinstance(x, tuple)
            to_head, x = ((*finer, of_head), (*finer, of_next)) if several else (of_head, of_next)
        found.append(F.cross_entropy(head(to_head), labels))
    return found


def by_hooks(net: MultiExitNet, gains: Callable[[int, int, int], tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The losses of a plain net whose forks multiply gradients by hooks on their two edges.

    Args:
        net: A net with plain forks.
        gains: (exit from 1, how many scales coarser than this one, channels) -> the gains ``[C]`` of the
            head's gradient and of the next stage's.
    """

    def edge(x: Tensor, gain: Tensor) -> Tensor:
        alias = x.view_as(x)
        alias.register_hook(lambda grad: grad * gain.to(grad).reshape(1, -1, *[1] * (grad.dim() - 2)))
        return alias

    x, labels = batch()
    x, found = x.to(next(net.parameters())), []
    for exit, (stage, head) in enumerate(zip(net.stages, net.heads, strict=True), start=1):
        to_head = x = stage(x)
        if exit < net.num_exits:
            scales = x if isinstance(x, tuple) else (x,)
            tables = [gains(exit, len(scales) - 1 - s, t.shape[1]) for s, t in enumerate(scales)]
            of_head = tuple(edge(t, g) for t, (g, _) in zip(scales, tables, strict=True))
            of_next = tuple(edge(t, g) for t, (_, g) in zip(scales, tables, strict=True))
            to_head, x = (of_head, of_next) if isinstance(x, tuple) else (of_head[0], of_next[0])
        found.append(F.cross_entropy(head(to_head).double(), labels))
    return found
