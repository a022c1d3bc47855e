"""Gradient remedy: the gradient of the auxiliary losses never opposes or drowns that of the primary one.

Hu, Chen, Zhu, Chng, "Gradient Remedy for Multi-Task Learning in End-to-End Noise-Robust Speech Recognition",
ICASSP 2023, arXiv:2302.11362, and its public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from offramp.checks import choice, number
from offramp.errors import UserError, guess, shown
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.combiner import Combiner
from offramp.methods.combiners.jacobian import SCOPES, Jacobian, RowBlock
from offramp.methods.objectives.step import Step
from offramp.methods.passes import EACH, Passes

__all__ = ["GradientRemedy", "remedied"]


@dataclass(frozen=True, kw_only=True)
class GradientRemedy(Combiner):
    """One primary loss, and the sum of all others as the auxiliary one; see :func:`remedied`.

    Where the primary loss has no gradient, the direction is the sum of the others.

    Attributes:
        primary: Name of the output whose loss is the primary one; None: the last one that has a target.
        max_ratio: How much longer the auxiliary gradient may be than the primary one; 5 in the public code.
        granularity: ``tensor``: each weight tensor by itself, as in the public code; ``group``: together all
            parameters that the same losses reach.
        shared: Which parameters have rows, and together: ``per_stage``, ``union``, ``first`` or ``all``.

    Raises:
        UserError: A value out of its range.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rows", "trunk"})
    whole_batch = ""
    primary: str | None = None
    max_ratio: float = 5.0
    granularity: str = "tensor"
    shared: str = "per_stage"

    def __post_init__(self) -> None:
        if self.primary is not None and not isinstance(self.primary, str):
            raise UserError(f"primary is {shown(self.primary)}, must be the name of an output")
        number(self, "max_ratio", "above 1", lambda ratio: ratio > 1)
        choice(self, "granularity", ("tensor", "group"))
        choice(self, "shared", SCOPES)

    @property
    def passes(self) -> Passes:  # noqa: D102
        return Passes(1, EACH)

    def bind(self, net: nn.Module, seed: int = 0) -> nn.Module:  # noqa: D102
        names = list(net.outputs)  # type: ignore[arg-type]
        if self.primary is not None and self.primary not in names:
            raise UserError(
                f"the net has no output {shown(self.primary)}{guess(self.primary, names)}; primary is one of "
                f"{', '.join(names)}"
            )
        primary = None if self.primary is None else names.index(self.primary)
        return BoundGradientRemedy(self, net, primary)


class BoundGradientRemedy(nn.Module):
    """Gradient remedy bound to a net.

    Args:
        method: Its options.
        net: The net, its forks in place.
        primary: Index of the output whose loss is the primary one; None: the last one that has a target.
    """

    def __init__(self, method: GradientRemedy, net: nn.Module, primary: int | None) -> None:
        super().__init__()
        self.method, self.primary = method, primary
        self.jacobian = Jacobian(net, method.shared)

    def forward(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:
        """Add a gradient to ``.grad`` of every parameter."""
        first = self.primary if self.primary is not None or not step.present else step.present[-1]
        for block in self.jacobian.blocks(losses, step, backward):
            assert isinstance(block, RowBlock)
            matrix = block.matrix()
            if first not in block.owners:
                block.assign(matrix.sum(0))
                continue
            primary = matrix[block.owners.index(first)]
            auxiliary = matrix.sum(0) - primary
            sizes = [parameter.numel() for parameter in block.parameters]
            if self.method.granularity == "group":
                sizes = [sum(sizes)]
            pieces = zip(primary.split(sizes), auxiliary.split(sizes), strict=True)
            block.assign(torch.cat([remedied(a, s, self.method.max_ratio) for a, s in pieces]))


def remedied(primary: Tensor, auxiliary: Tensor, max_ratio: float) -> Tensor:
    """The sum of two gradients after the remedy of their angle and of their lengths.

    With a the primary and s the auxiliary gradient: where s opposes a, it loses its part along a and gets one
    that makes the tangent of their angle |s| / |a|. Then, where s is more than ``max_ratio`` times as long as
    a, s is multiplied by their cosine c and a divided by it. c is 1 / max_ratio at least, since a would grow
    without bound.

    Args:
        primary: a, ``[n]``.
        auxiliary: s, ``[n]``.
        max_ratio: Above 1.

    Returns:
        ``[n]``. What is 0 is left alone.
    """
    a, s = primary, auxiliary
    length, other = torch.linalg.vector_norm(a), torch.linalg.vector_norm(s)
    safe = torch.where(length > 0, length, 1)
    along = torch.dot(s, a) / safe
    across = s - (along / safe) * a
    # the part along a that is put in has the length of s across a over |s| / |a|
    tangent = other / safe
    turned = across + torch.linalg.vector_norm(across) / torch.where(tangent > 0, tangent, 1) * (a / safe)
    s = torch.where(along < 0, turned, s)
    other = torch.linalg.vector_norm(s)
    cosine = torch.dot(s, a) / torch.where(other > 0, other, 1) / safe
    bounded = torch.where(cosine != 0, cosine.clamp(min=1 / max_ratio), 1)
    too_long = (length > 0) & (other > max_ratio * length) & (cosine != 0)
    factor = torch.where(too_long, bounded, torch.ones_like(bounded))
    return factor * s + a / factor
