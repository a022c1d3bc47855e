"""What a training step costs in operations: counted on the real net, and by the paper's model (Eq 10-14)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from offramp.modes import modes_kept

if TYPE_CHECKING:
    from offramp.nets.separate import Net

__all__ = ["PaperOperations", "paper_operations", "training_macs"]


def training_macs(net: Net) -> int:
    """Multiply-accumulates of one training step (forward and backward, all exits) for each sample.

    Counts the convolutions and matrix products that really run, with the net's forks as they are.
    Batch norm, activations, pooling and the optimiser are not counted.

    Args:
        net: The net; its gradients, buffers and mode are left as they were.
    """
    batch = 2  # batch norm in train mode cannot do with one value for each channel
    like = next(net.parameters())
    images = like.new_zeros((batch, *net.input_size))
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    counter = _Counter()
    try:
        with modes_kept(net), torch.enable_grad(), counter:
            net.train()
            loss = torch.stack([logits.sum() for logits in net(images)]).sum()
            torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad], allow_unused=True)
    finally:
        for name, value in net.named_buffers():
            value.copy_(buffers[name])
    return counter.get_total_flops() // (2 * batch)


@dataclass(frozen=True)
class PaperOperations:
    """The paper's count for a net of L equal layers, in units of N^3 operations.

    Attributes:
        joint: (12 L - 2): forward 4 L, backward 8 L - 2 (Eq 10-12).
        dfs: 10 L, whatever beta (Eq 13, 14).
    """

    joint: int
    dfs: int

    @property
    def saving(self) -> float:
        """Share of the operations that DFS saves, (L - 1) / (6 L - 1)."""
        return 1 - self.dfs / self.joint


def paper_operations(exits: int) -> PaperOperations:
    """Eq 10-14: all features and weights N x N, a head as dear as a layer, products cost 2 N^3.

    No real net is like that: its heads are far cheaper than its layers, so that the saving depends on beta.
    """
    return PaperOperations(joint=12 * exits - 2, dfs=10 * exits)


class _Counter(FlopCounterMode):
    """Counts without a look at modules, whose hooks on their inputs would have whole gradients computed."""

    def __init__(self) -> None:
        known = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
        super().__init__(display=False, custom_mapping=known)
        self.mod_tracker = _NoModules()  # type: ignore[assignment]


class _NoModules(nullcontext):
    parents = frozenset({"Global"})


def _convolution_backward_flops(
    grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *args: object, **_: object
) -> int:
    """Two operations a multiply-accumulate; torch's own formula over-counts grouped convolutions."""
    transposed, mask = args[4], args[7]
    assert isinstance(mask, (list, tuple))
    product = 2 * math.prod(weight) * grad[0] * math.prod(x[2:] if transposed else grad[2:])
    return product * (int(mask[0]) + int(mask[1]))
