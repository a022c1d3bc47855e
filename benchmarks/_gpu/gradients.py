"""One step's gradients on the device against float64 on the CPU: the forks' implementations, and the nets."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from _clock import precision
from torch import Tensor, nn

import offramp.nets
from _gpu.finding import Cases, Finding, Where, distance, flat
from _gpu.small import CLASSES, small_net
from offramp.forks import partition
from offramp.nets import NETS, MultiExitNet

__all__ = ["FLIPS", "forks", "has_exits", "nets"]

BATCH = 8
# A dozen layers forth and back make ten to two hundred times the unit roundoff, by the kernels chosen.
ROUNDED = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
SIZES = {"msdnet": {"growth": 4, "channels": 8}}  # the others take a width
FLIPS = 0.05  # a ReLU that a rounding switches moves a gradient much further than the rounding itself


def forks(where: Where) -> Cases:
    """DFS in its three implementations, under autocast, in both layouts; and its second derivative."""
    dtypes = ("float32",) if where.small else tuple(ROUNDED)
    cases = {
        f"{impl} {dtype} {layout}": functools.partial(_fork, impl, dtype, layout, where.device)
        for impl in ("fused", "split", "cat")
        for dtype in dtypes
        for layout in ("default", "channels_last")
    }
    return cases | {
        f"{impl} twice": functools.partial(_twice, impl, where.device) for impl in ("fused", "cat")
    }


def nets(where: Where) -> Cases:
    """Every network with exits, joint and DFS; ``several`` has the SegNets."""
    names = ("vgg7", "msdnet_cifar") if where.small else [n for n in NETS if has_exits(n)]
    return {
        f"{name} {method}": functools.partial(_net, name, method, where.device)
        for name in names
        for method in ("joint", "dfs")
    }


def has_exits(name: str) -> bool:
    """Whether a network of the catalogue tells the class of an image, at several exits."""
    return isinstance(_thin(name), MultiExitNet)


def _thin(name: str) -> nn.Module:
    size = SIZES.get(name.partition("_")[0], {"width": 8})
    return offramp.nets.create(name, num_classes=CLASSES, **size)


def _batch(net: nn.Module) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, *net.input_size, generator=draws)
    return images, torch.randint(CLASSES, (BATCH,), generator=draws)


def _loss(net: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    outputs = [o if o.dtype == torch.float64 else o.float() for o in net(images)]
    return torch.stack([F.cross_entropy(o, targets) for o in outputs]).sum()


def _gradients(
    net: nn.Module, device: str, dtype: str = "float32", layout: str = "default", *, exact: bool = False
) -> tuple[Tensor, Tensor]:
    """Gradient of all parameters, and the loss."""
    images, targets = (x.to(device) for x in _batch(net))
    net = copy.deepcopy(net).to(device).train()
    if exact:
        net, images = net.double(), images.double()
    if layout == "channels_last":
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    with precision(dtype, device) as autocast, autocast:
        loss = _loss(net, images, targets)
    loss.backward()
    return flat({n: p.grad for n, p in net.named_parameters() if p.grad is not None}), loss


def _compared(net: nn.Module, exact: nn.Module, bound: float, *how: str) -> Mapping[str, Finding]:
    wanted, wanted_loss = _gradients(exact, "cpu", exact=True)
    found, loss = _gradients(net, *how)
    return {
        "gradient": Finding(distance(found, wanted), bound),
        "loss": Finding(distance(loss, wanted_loss), bound / 50),  # no derivative adds to its rounding
    }


def _fork(impl: str, dtype: str, layout: str, device: str) -> Mapping[str, Finding]:
    net, exact = small_net(), small_net()
    partition(net, impl=impl)
    partition(exact, impl="cat")
    return _compared(net, exact, ROUNDED[dtype], device, dtype, layout)


def _net(name: str, method: str, device: str) -> Mapping[str, Finding]:
    torch.manual_seed(0)
    net = _thin(name)
    for module in net.modules():
        if isinstance(module, nn.Dropout):  # draws differ from device to device
            module.p = 0.0
    exact = copy.deepcopy(net)
    if method == "dfs":
        partition(net)
        partition(exact, impl="cat")
    return _compared(net, exact, FLIPS, device)


def _twice(impl: str, device: str) -> Mapping[str, Finding]:
    """The gradient of the squared norm of a gradient."""

    def second(net: nn.Module, device: str, dtype: torch.dtype) -> Tensor:
        images, targets = (x.to(device) for x in _batch(net))
        net = net.to(device, dtype).train()
        parameters = dict(net.named_parameters())
        first = torch.autograd.grad(
            _loss(net, images.to(dtype), targets), list(parameters.values()), create_graph=True
        )
        torch.stack([g.square().sum() for g in first]).sum().backward()
        return flat({n: p.grad for n, p in parameters.items() if p.grad is not None})

    net, exact = small_net(), small_net()
    partition(net, impl=impl)
    partition(exact, impl="cat")
    wanted = second(exact, "cpu", torch.float64)
    return {
        "gradient": Finding(distance(second(net, device, torch.float32), wanted), 10 * ROUNDED["float32"])
    }
