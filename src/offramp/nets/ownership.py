"""Ownership: which outputs' losses reach each parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from offramp.checks import of_kind
from offramp.nets.inputs import check_inputs
from offramp.nets.plain_weights import check_real
from offramp.reentrant import reentrant_named
from offramp.unchanged import unchanged

__all__ = ["owners"]


def owners(net: nn.Module, inputs: Any) -> dict[str, frozenset[int]]:
    """The outputs that own each parameter, found by one backward pass per output.

    An output owns a parameter if its loss can change it: the gradient is there and is not zero. So a
    gradient that a fork cuts off does not count, whether it comes as None or as zeros.

    A gradient can also be zero by chance: behind a dead ReLU, or before a scale that starts at 0, as
    many residual blocks end in. Therefore the passes run not at the parameters but near them and, if a
    gradient is zero there, also where all parameters are positive and no ReLU is dead. A net on the meta
    device has no values: there every gradient counts that is not None.

    Args:
        net: A module that returns its outputs as a list or tuple of Tensors, of any shapes.
        inputs: A batch for it. Its values do not matter; a small random one will do.

    Returns:
        For every parameter name the 0-based indices of its owners; none if it is frozen or unused. Of
        tied parameters the first name stands for all. The net is left as it was: parameters, buffers,
        gradients, modes and random state; hooks of the user's own do not run.

    Raises:
        UserError: A part of the net is checkpointed in a way that has no gradients of some weights alone, or
            a parameter is complex.
    """
    of_kind("net", net, nn.Module, "a network")
    check_inputs(inputs)
    check_real(net)
    reaching: dict[str, set[int]] = {name: set() for name, _ in net.named_parameters()}
    for parameter, buffer, x in (
        (_near, _same, inputs),
        (_positive, _neutral, tree_map_only(Tensor, _absolute, inputs)),
    ):
        random = torch.Generator().manual_seed(0)
        doubt = False
        with unchanged(net), _plain_arithmetic(net), _moved(net, parameter, buffer, random):
            x = tree_map_only(Tensor, torch.clone, x)  # it may have been made in inference mode
            net.eval()
            for name, k, reached in _gradients(net, x, random):
                if reached:
                    reaching[name].add(k)
                else:
                    doubt = True
        if not doubt:
            break
    return {name: frozenset(indices) for name, indices in reaching.items()}


@contextmanager
def _plain_arithmetic(net: nn.Module) -> Iterator[None]:
    """No autocast, which keeps low-precision copies of the weights that it met, and no inference mode."""
    device = next(net.parameters()).device.type
    autocast = nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
    with torch.inference_mode(mode=False), autocast:
        yield


def _gradients(net: nn.Module, inputs: Any, random: torch.Generator) -> Iterator[tuple[str, int, bool]]:
    """Yield (parameter, output, whether not zero) for each gradient that is not None."""
    live = {name: p for name, p in net.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        outputs: Sequence[Tensor] = net(inputs)
    for k, output in enumerate(outputs):
        if output.requires_grad:
            # Positive as well, so that nothing cancels; not constant, to which a softmax is blind.
            direction = _uniform(output, random)
            with reentrant_named():
                grads = torch.autograd.grad(
                    output, list(live.values()), direction, retain_graph=True, allow_unused=True
                )
            for name, grad in zip(live, grads, strict=True):
                if grad is not None:
                    yield name, k, grad.is_meta or bool(grad.any())


@contextmanager
def _moved(
    net: nn.Module,
    parameter: Callable[[Tensor, Tensor], Tensor],
    buffer: Callable[[str, Tensor], Tensor],
    random: torch.Generator,
) -> Iterator[None]:
    """Put other values into the net's tensors in the ``with`` block; tied tensors stay tied."""
    kept = [(tensor, tensor.data) for tensor in (*net.parameters(), *net.buffers())]
    try:
        for p in net.parameters():
            if p.requires_grad:
                p.data = parameter(p.data, _uniform(p, random))
        for name, b in net.named_buffers():
            b.data = buffer(name, b.data)
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data


def _absolute(tensor: Tensor) -> Tensor:
    return tensor.abs() if tensor.is_floating_point() else tensor


def _near(parameter: Tensor, noise: Tensor) -> Tensor:
    """A parameter moved by up to a tenth of its own size, or by up to 0.1 if it is all zeros."""
    size = parameter.square().mean().sqrt()
    return parameter + 0.1 * torch.where(size > 0, size, 1) * (2 * noise - 1)


def _same(name: str, buffer: Tensor) -> Tensor:
    return buffer.clone()


def _positive(parameter: Tensor, noise: Tensor) -> Tensor:
    """A positive parameter, so small that activations stay small: a weight averages what it reads."""
    fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
    return (0.25 + 0.5 * noise) / fan_in


def _neutral(name: str, buffer: Tensor) -> Tensor:
    """A buffer with which norm layers subtract nothing and scale nothing."""
    neutral = {"running_mean": torch.zeros_like, "running_var": torch.ones_like}
    return neutral.get(name.rsplit(".", 1)[-1], torch.clone)(buffer)


def _uniform(like: Tensor, random: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=random).to(like)
