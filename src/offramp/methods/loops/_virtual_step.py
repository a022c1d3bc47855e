"""The step that an optimiser would take, as a function of the gradient that autograd can differentiate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["virtual_step"]

CLIP_EPS = 1e-6  # what torch's clip_grad_norm_ adds to the norm


def virtual_step(
    optimizer: torch.optim.Optimizer, gradients: Mapping[Tensor, Tensor], clip: float
) -> dict[Tensor, Tensor]:
    """What parameters would be after the optimiser's next step; neither they nor its state change.

    Momentum, moments, weight decay and clipping count as in the step itself: from SGD each element moves by
    -lr (1 + mu for Nesterov) for each unit of its gradient, from Adam by the slope of its quotient of
    moments, and clipping couples all of them.

    Args:
        optimizer: SGD, Adam or AdamW of torch, at the learning rates of the step.
        gradients: Parameter -> its gradient. A parameter without one stays as it is and
            is not in the result.
        clip: Largest norm of the whole gradient; 0 leaves it alone.

    Returns:
        Parameter -> what it would be, in a graph from the gradients.
    """
    if clip:
        norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        factor = (clip / (norm + CLIP_EPS)).clamp(max=1.0)
        gradients = {parameter: factor * gradient for parameter, gradient in gradients.items()}
    descend = _sgd if isinstance(optimizer, torch.optim.SGD) else _adam
    return {
        parameter: descend(
            parameter.detach(), gradients[parameter], group, optimizer.state.get(parameter, {})
        )
        for group, parameter in _members(optimizer)
        if parameter in gradients
    }


def _members(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], Tensor]]:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield group, parameter


def _sgd(value: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> Tensor:
    mu: float = group["momentum"]
    lr: float = group["lr"]
    step = gradient + group["weight_decay"] * value
    if mu:
        last = state.get("momentum_buffer")
        buffer = step if last is None else mu * last + step
        step = step + mu * buffer if group["nesterov"] else buffer
    moved: Tensor = value - lr * step
    return moved


def _adam(value: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> Tensor:
    lr: float = group["lr"]
    (beta1, beta2), decay = group["betas"], group["weight_decay"]
    if group["decoupled_weight_decay"]:
        value = value * (1 - lr * decay)
    else:
        gradient = gradient + decay * value
    count = float(state["step"]) + 1 if state else 1.0
    mean, square = (1 - beta1) * gradient, (1 - beta2) * gradient**2
    if state:
        mean, square = mean + beta1 * state["exp_avg"], square + beta2 * state["exp_avg_sq"]
    deviation = _root(square / (1 - beta2**count))
    moved: Tensor = value - lr / (1 - beta1**count) * mean / (deviation + group["eps"])
    return moved


def _root(square: Tensor) -> Tensor:
    """The square root, whose slope is 0 where it is 0: of a gradient that was 0 throughout."""
    return torch.where(square > 0, square, 1).sqrt() * (square > 0)
