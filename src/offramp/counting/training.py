"""Operations of a training step: counted on the real net, and by the paper's model (Eq 10-14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from offramp.checks import count_of
from offramp.errors import UserError
from offramp.flops import Tally, without_formula
from offramp.nets.net import check_net
from offramp.nets.sample import sample_of
from offramp.reentrant import reentrant_named
from offramp.unchanged import unchanged

if TYPE_CHECKING:
    from offramp.nets.net import Net

__all__ = ["PaperOperations", "paper_operations", "training_macs"]


def training_macs(net: Net) -> int:
    """Multiply-accumulates of one training step (forward and backward, all exits) for each sample.

    Counts the convolutions and matrix products that really run, with the net's forks as they are.
    Batch norm, activations, pooling and the optimiser are not counted.
    :func:`offramp.training.operations.training_operations` counts a method's whole training.

    Args:
        net: The net; it is left as it was.

    Raises:
        UserError: It runs operators that cannot be counted.
    """
    check_net(net, "net")
    batch = 2  # batch norm in train mode cannot do with one value for each channel
    tally = Tally()
    with unchanged(net), torch.enable_grad():
        net.train()
        with tally.at_work(), reentrant_named():
            loss = torch.stack([logits.sum() for logits in net(sample_of(net, batch))]).sum()
            torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad], allow_unused=True)
    if tally.hiding:
        raise UserError(f"the operations of a training step are unknown: {without_formula(tally.hiding)}")
    return tally.macs // batch


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
    """The paper's count for a net with so many exits: all features and weights N x N (Eq 10-14).

    A head is as dear as a layer, and a product costs 2 N^3.

    No real net is like that: its heads are far cheaper than its layers, so that the saving depends on beta.
    """
    count_of("exits", exits)
    return PaperOperations(joint=12 * exits - 2, dfs=10 * exits)
