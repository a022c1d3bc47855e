"""Dynamic task prioritization: outputs that are still wrong often weigh more.

Guo, Haque, Huang, Yeung, Fei-Fei, "Dynamic Task Prioritization for Multitask Learning", ECCV 2018. The
paper's per-sample focal loss within a task is not part of it, and its gamma and its averaging are not
established: the defaults here are our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.checks import number, switch
from offramp.errors import UserError, shown
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step
from offramp.tasks import Task

__all__ = ["DTP"]

# A share of 0 would weigh infinitely, one of 1 not at all.
LEAST, MOST = 0.1, 0.99


@dataclass(frozen=True, kw_only=True)
class DTP(Balancer):
    """Weighs loss k by -(1 - kappa_k)^focus log kappa_k, kappa_k the output's metric as a share of the best.

    The metric is the primary one of the output's task on training batches, a moving average of it; below 0.1
    it counts as 0.1, above 0.99 as 0.99. It must be one of which 100 is the best, such as an accuracy in
    percent. No gradient goes through the weights. They fall as the outputs get better, and the steps with
    them.

    Attributes:
        focus: The paper's gamma: how fast the weight of an output that gets better falls.
        ema: Share of the newest batch in the moving average, which begins at the first batch's value.
        normalise: Scale the weights so that they add up to the number of losses.

    Raises:
        UserError: A value out of its range.
    """

    focus: float = 1.0
    ema: float = 0.1
    normalise: bool = False

    def __post_init__(self) -> None:
        number(self, "focus", "of 0 or more", lambda focus: focus >= 0)
        number(self, "ema", "above 0 and up to 1", lambda share: 0 < share <= 1)
        switch(self, "normalise")

    @property
    def whole_batch(self) -> str:  # noqa: D102
        return "dtp weighs the losses by the metrics of a whole batch"

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        outputs: dict[str, Task] = net.outputs  # type: ignore[assignment]
        for name, task in outputs.items():
            if task.better != "higher":
                raise UserError(
                    f"dtp needs a metric of which 100 is the best, and output {shown(name)} is measured by "
                    f"{task.primary}, which is better the lower it is; take another balancer, e.g. dwa"
                )
        return BoundDTP(self, len(outputs))


class BoundDTP(nn.Module):
    """Dynamic task prioritization bound to a net; it holds the averages kappa ``[K]``, -1 before any."""

    kappa: Tensor

    def __init__(self, options: DTP, outputs: int) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("kappa", torch.full((outputs,), -1.0))

    def forward(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses by how well their outputs do.

        Raises:
            UserError: A metric that is no percentage.
        """
        options, present = self.options, step.present
        if not step.trial:
            for k in present:
                self._see(k, step)
        kappa = self.kappa[present].clamp(LEAST, MOST)
        weights = -((1 - kappa) ** options.focus) * kappa.log()
        if options.normalise:
            weights = weights * (len(present) / weights.sum())
        return [weight.to(loss) * loss for weight, loss in zip(weights, losses, strict=True)]

    def _see(self, k: int, step: Step) -> None:
        task = step.tasks[k]
        output = step.outputs[k].detach()
        target = step.targets.get(task.target)
        if target is None:  # another process has it
            target, output = task.example_target(output[:0]), output[:0]
        counts = task.counts(output, target)
        if step.average is not None:
            counts = step.average(counts.to(self.kappa))
        value = task.metrics(counts.cpu())[task.primary]
        if value != value:  # over nothing, e.g. no valid pixel
            return
        if not 0 <= value <= 100:
            raise UserError(
                f"dtp needs metrics in percent, and {task.primary} of output {k + 1} is {value:.3g}; take "
                "another balancer, e.g. dwa"
            )
        before = self.kappa[k]
        share = value / 100
        self.kappa[k] = torch.where(before < 0, share, before + self.options.ema * (share - before))
