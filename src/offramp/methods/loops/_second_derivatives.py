"""Whether a backward pass can be differentiated: some layers have no second derivative, and few say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from offramp.attention import plain_attention
from offramp.errors import UserError, error_text, shown
from offramp.methods.combiners.jacobian.exit_graph import region_behind
from offramp.methods.loops._weight_gradient import gradients_with_graph, trained_by
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.progress import Progress
from offramp.unchanged import unchanged

__all__ = ["check_second_derivatives"]

# what torch says where there is none
WORDS = ("is not implemented", "once_differentiable", "double backward", "use_reentrant")
ERROR = "torch::autograd::Error"  # what @once_differentiable puts behind a gradient; nothing is behind it


def check_second_derivatives(context: LoopContext, optimizer: torch.optim.Optimizer) -> None:
    """Differentiate the gradient of two training samples, and leave everything as it was.

    Raises:
        UserError: A layer of the net has no second derivative.
    """
    net, bound = context.net, context.bound
    with unchanged(net, bound), plain_attention():
        batch = next(context.batches(0, 1)).first(2)
        step = context.plain().forward(batch, Progress(0, 0.0, 0.0), together=False)
        try:
            found = gradients_with_graph(bound, step, trained_by(optimizer))
            if found is None:
                return
            values, gradients = found
            rows = [gradient for gradient in gradients.values() if gradient is not None]
            why = _what_is_missing(values, rows)
            if not why:
                torch.autograd.grad(rows, values, [torch.zeros_like(row) for row in rows])
        except RuntimeError as error:
            if not any(words in str(error) for words in WORDS):
                raise
            why = error_text(error)
    if why:
        raise UserError(
            f"{shown(bound.method.name)} goes back through a backward pass, and a layer of this net has no "
            f"second derivative ({why}); take another method, e.g. uncertainty"
        )


def _what_is_missing(values: Tensor, gradients: Sequence[Tensor]) -> str:
    """Why gradients do not depend on a leaf as they should; empty where they do.

    A backward pass that leaves no graph ends the graph of what lies before it, and torch takes the rest for
    all there is.
    """
    if not all(gradient.requires_grad for gradient in gradients):
        return "its backward pass leaves no graph"
    starts = [get_gradient_edge(gradient).node for gradient in gradients]
    nodes = region_behind(starts, {}).nodes
    if any(node.name() == ERROR for node in nodes):
        return "it is marked with @once_differentiable"
    readers: dict[Any, list[Any]] = {}
    for node in nodes:
        for other, _ in node.next_functions:
            readers.setdefault(other, []).append(node)
    reached, left = set(), [get_gradient_edge(values).node]
    while left:
        node = left.pop()
        if node not in reached:
            reached.add(node)
            left += readers.get(node, [])
    return "" if reached.issuperset(starts) else "its backward pass leaves no graph"
