"""AdaTask: learning rates that adapt to each task by itself.

Yang, Pan, Wang, Yu, Shen, Chen, Xiao, Jiang, Guo, "AdaTask: A Task-aware Adaptive Learning Rate Approach to
Multi-task Learning", AAAI 2023, arXiv:2211.15055, its version for Adam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from offramp.checks import choice
from offramp.errors import UserError
from offramp.methods.combiners._adam_per_task import AdamPerTask
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.combiner import Combiner
from offramp.methods.combiners.jacobian import Jacobian, RowBlock
from offramp.methods.objectives.step import Step
from offramp.methods.passes import EACH, Passes

__all__ = ["AdaTask"]


@dataclass(frozen=True, kw_only=True)
class AdaTask(Combiner):
    """Each loss moves shared parameters by an Adam step of its own, with moments of its own gradient.

    What one loss alone reaches moves as by Adam. ``.grad`` holds the sum of the gradients, for whoever looks
    at it; the steps are those of an :class:`~offramp.methods.combiners._adam_per_task.AdamPerTask`.

    Attributes:
        scaling: ``sum``: the steps add up, as published, so that what m losses share moves by up to m times
            the learning rate; ``mean``: divided by m.

    Raises:
        UserError: Another scaling.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rows", "trunk", "factors"})
    own_optimizer: ClassVar[tuple[str, ...]] = ("adam", "adamw")
    whole_batch = ""
    scaling: str = "sum"

    def __post_init__(self) -> None:
        choice(self, "scaling", ("sum", "mean"))

    @property
    def passes(self) -> Passes:  # noqa: D102
        return Passes(1, EACH)

    def bind(self, net: nn.Module, seed: int = 0) -> nn.Module:  # noqa: D102
        return BoundAdaTask(self, net)


class BoundAdaTask(nn.Module):
    """AdaTask bound to a net; the moments are the optimiser's.

    Args:
        method: Its options.
        net: The net, its forks in place.
    """

    def __init__(self, method: AdaTask, net: Any) -> None:
        super().__init__()
        self.method, self.outputs = method, len(net.outputs)
        self.jacobian = Jacobian(net)
        owned = net.owners()
        self.owners = {p: owned.get(name, frozenset[int]()) for name, p in net.named_parameters()}
        self.taking: AdamPerTask | None = None

    def optimizer(self, optimizer: torch.optim.Optimizer, clip: float) -> torch.optim.Optimizer:
        """Make the optimiser that takes the steps.

        Args:
            optimizer: An Adam or AdamW over the net's parameters.
            clip: Largest norm of each loss's gradient; 0 leaves it alone.

        Raises:
            UserError: It is another one, or has taken steps already.
        """
        if not isinstance(optimizer, torch.optim.Adam) or optimizer.state:
            raise UserError(
                f"adatask keeps the moments of Adam for each output, and got {type(optimizer).__name__}"
                f"{' that has taken steps' if optimizer.state else ''}; give a new torch.optim.Adam or AdamW"
            )
        sharers = {p: len(outputs) for p, outputs in self.owners.items()}
        mean = self.method.scaling == "mean"
        self.taking = AdamPerTask(optimizer, sharers, self.outputs, mean=mean, clip=clip)
        return self.taking

    def forward(
        self, losses: Sequence[Tensor], step: Step, backward: Backward, factors: Mapping[int, float]
    ) -> None:
        """Add the sum of the gradients to ``.grad``, and hand each of them to the optimiser.

        Args:
            losses: One scalar for each output that has a target.
            step: The step they come from.
            backward: How to get gradients.
            factors: Output -> what its loss has been multiplied by.
        """
        rows: dict[int, dict[Tensor, Tensor]] = {k: {} for k in step.present}
        for block in self.jacobian.blocks(losses, step, backward):
            assert isinstance(block, RowBlock)
            for k, row in zip(block.owners, block.rows, strict=True):
                pairs = zip(block.parameters, row, strict=True)
                rows[k].update({p: g.clone() for p, g in pairs if g is not None})
            block.combine(torch.ones(len(block.owners)))
        if self.taking is not None and not step.more:
            live = {k for k, loss in zip(step.present, losses, strict=True) if loss.requires_grad}
            heard = {p: outputs & live for p, outputs in self.owners.items()}
            alone = {p: next(iter(outputs)) for p, outputs in heard.items() if len(outputs) == 1}
            self.taking.hear(rows, alone, factors)
