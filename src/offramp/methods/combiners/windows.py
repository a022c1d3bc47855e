"""Block-dependent losses: each loss trains a window of blocks, from one forward pass.

"Block-Dependent Losses for Multi-Exit Networks", https://github.com/savertm/Block-Dependent-Losses-for-Multi-Exit-Networks.
The authors' code runs blocks again on detached inputs: of seven blocks 15 times one, forward and backward,
with an overlap of three, and 19 if the last loss reaches all. Each run updates the batch statistics. Here the
gradients are the same, and there is one forward pass.

Losses whose windows begin at the same block go back together. So there are as many backward passes as first
blocks, each from its losses to its first block. Of seven blocks they pass 15 times one with ``overlap-3`` and
16 with ``overlap-3-final``; with ``local`` and ``grouping`` each block once, as in joint training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from offramp.checks import choice
from offramp.errors import UserError
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.combiner import Combiner
from offramp.methods.combiners.jacobian import add_weighted_gradient, average_grads, loss_inputs
from offramp.methods.combiners.present import by_output
from offramp.methods.objectives.step import Step
from offramp.methods.passes import Passes
from offramp.nets.plain_weights import check_dense

__all__ = ["WINDOWS", "Windows", "first_blocks", "mask"]

WINDOWS = ("local", "grouping", "overlap-3", "overlap-3-final")


@dataclass(frozen=True, kw_only=True)
class Windows(Combiner):
    """Loss k reaches head k and the blocks from the first of its window to k, and no other.

    Attributes:
        window: ``local``: block k alone. ``grouping``: the blocks of its half; the first half are K // 2
            blocks, e.g. {1, 2, 3} and {4, ..., 7}. ``overlap-3``: blocks k - 2, k - 1 and k (BDL-1).
            ``overlap-3-final``: the same, but the last loss reaches all blocks (BDL-2).

    Raises:
        UserError: There is no such window.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rows"})
    whole_batch = ""
    window: str = "overlap-3"

    def __post_init__(self) -> None:
        choice(self, "window", WINDOWS)

    @property
    def passes(self) -> Passes:
        """Cost of a step in passes of joint training, for six evenly spaced exits; of seven a little more."""
        return Passes(1, 2 if self.window.startswith("overlap") else 1)

    def bind(self, net: nn.Module, seed: int = 0) -> Windows:
        """Check that the net has separate stages, and one for each output.

        Raises:
            UserError: It has no such stages, two of them share a parameter, or a gradient is sparse.
        """
        stages = getattr(net, "stages", None)
        if stages is None or len(stages) != len(net.outputs):  # type: ignore[arg-type]
            raise UserError(
                f"windows are made of stages, and {type(net).__name__} has none for each output; "
                "use another method"
            )
        owned = [p for stage in stages for p in set(stage.parameters())]
        if len(owned) > len(set(owned)):
            raise UserError("windows cannot cut between stages that share a parameter; use another method")
        check_dense(net)
        return self

    def __call__(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:  # noqa: D102
        net: Any = step.net
        losses = by_output(losses, step)
        inputs = loss_inputs(losses, step)
        starts = first_blocks(self.window, len(losses))
        order = sorted({starts[k] for k, loss in enumerate(losses) if loss.requires_grad}, reverse=True)
        here = replace(backward, average=None)
        reached: dict[Tensor, None] = {}
        for first_block in order:
            members = [
                k for k, start in enumerate(starts) if start == first_block and losses[k].requires_grad
            ]
            modules = [net.heads[k] for k in members]
            for b in range(first_block, members[-1] + 1):
                modules += [net.stages[b], *net.forks[b : b + 1]]
            wanted = dict.fromkeys(p for module in modules for p in module.parameters() if p.requires_grad)
            wanted.update({p: None for k in members for p in inputs[k].leaves})
            ones = dict.fromkeys(members, 1.0)
            add_weighted_gradient(losses, ones, list(wanted), here, keep_graph=first_block != order[-1])
            reached.update(wanted)
        if not step.more:
            average_grads(list(reached), backward)


def first_blocks(window: str, exits: int) -> list[int]:
    """First block that each loss reaches, counted from 0.

    Args:
        window: One of :data:`WINDOWS`.
        exits: K.
    """
    if window == "local":
        return list(range(exits))
    if window == "grouping":
        return [0 if k < exits // 2 else exits // 2 for k in range(exits)]
    starts = [max(0, k - 2) for k in range(exits)]
    if window == "overlap-3-final":
        starts[-1] = 0
    return starts


def mask(window: str, exits: int) -> list[list[bool]]:
    """Whether loss k (row) reaches block b (column)."""
    return [[start <= b <= k for b in range(exits)] for k, start in enumerate(first_blocks(window, exits))]
