"""One training step as objectives and combiners see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from offramp.tasks import Task

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """One batch, or one of the micro-batches that it is cut into, after the forward pass.

    Attributes:
        net: The network that produced the outputs.
        outputs: What each output gives: K Tensors ``[N, ...]``, of a multi-exit net logits, shallow to deep.
        tasks: The task of each output, K of them; fewer outputs than tasks if the pass stopped early.
        targets: Key of a task's target -> Tensor ``[N, ...]``.
        progress: Share of the training done, from 0 to 1.
        epoch: Whole epochs done.
        epochs: How many there will be.
        features: What the last linear layer of each head reads: K tensors ``[N, D_k]``. Only for a method
            that needs them.
        trunk: The feature of every stage but the last, as its fork got it, in the graph. Only for a method
            that needs it, and not if the forward pass is compiled.
        part: The losses of the first share (0 to 1) of the batch and the step they come from: a forward
            pass of its own that leaves the batch statistics alone.
        whole: The targets of the whole batch that these samples are a share of; None: they are all of it.
        share: Share (0 to 1) of the batch that these samples are; 1 unless it is cut.
        more: Whether micro-batches of the same batch follow.
        average: Gives a scalar's mean over the processes that share the batch; None if there is one.
    """

    net: nn.Module
    outputs: Sequence[Tensor]
    tasks: Sequence[Task]
    targets: Mapping[str, Tensor]
    progress: float = 0.0
    epoch: int = 0
    epochs: int = 1
    features: Sequence[Tensor] | None = None
    trunk: Sequence[Any] | None = None
    part: Callable[[float], tuple[list[Tensor], Step]] | None = None
    whole: Mapping[str, Tensor] | None = None
    share: float = 1.0
    more: bool = False
    average: Callable[[Tensor], Tensor] | None = None
    _totals: dict[Task, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def present(self) -> list[int]:
        """Indices of the outputs that have a target in this batch; the others have no loss."""
        return [k for k in range(len(self.outputs)) if self.tasks[k].target in self.targets]

    def loss(self, k: int) -> Tensor:
        """Loss of the k-th output (from 0) by its task: a scalar, in float32 or wider.

        Of a micro-batch, its share times the loss adds up to the loss of the whole batch.
        """
        task, output = self.tasks[k], self.outputs[k]
        values, weights = task.loss(output, self.targets[task.target])
        if task not in self._totals:  # outputs of one task have the samples in common
            total = weights.sum() if self.whole is None else self.share * self._whole_weight(task, output)
            total = total if self.average is None else self.average(total)
            self._totals[task] = torch.where(total > 0, total, 1)  # a batch in which nothing counts: loss 0
        return (weights * values).sum() / self._totals[task]

    def _whole_weight(self, task: Task, output: Tensor) -> Tensor:
        """Sum of the weights of the whole batch's samples, which do not depend on the outputs' values."""
        assert self.whole is not None
        parts = self.whole[task.target].split(len(output))
        blank = output.detach().new_zeros(output.shape)
        return torch.stack([task.loss(blank[: len(part)], part)[1].sum() for part in parts]).sum()
