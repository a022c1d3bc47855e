"""One training step as objectives and combiners see it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from offramp.tasks import Task
from offramp.tasks.task import wide

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
        trial: Whether this is a pass over a part of a batch (``part``), of which nothing is remembered.
        average: Gives a Tensor's mean over the processes that share the batch; None if there is one.
        processes: How many processes share the batch.
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
    trial: bool = False
    average: Callable[[Tensor], Tensor] | None = None
    processes: int = 1
    _terms: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def present(self) -> list[int]:
        """Indices of the outputs that have a target in this batch; the others have no loss.

        The batch is the whole one, in all processes: where others have the targets that lack here, all
        processes have a loss all the same, and the one here is 0.
        """
        here = [self._is_here(k) for k in range(len(self.outputs))]
        if self.average is not None:
            # in every process, so that no process sends an objective's own message while another sends this
            means = self._over_processes
            if not all(here):  # to read them waits for the device
                here = (means.present > 0).tolist()
        return [k for k, there in enumerate(here) if there]

    def of(self, outputs: Sequence[int]) -> Step:
        """A copy of the step, in which only these of the present outputs are present."""
        step = copy.copy(self)
        step.__dict__["present"] = [k for k in self.present if k in outputs]
        return step

    def loss(self, k: int, factors: Tensor | None = None) -> Tensor:
        """Loss of the k-th output (from 0) by its task: a scalar, in float32 or wider.

        Of a micro-batch, its share times the loss adds up to the loss of the whole batch; the mean over the
        processes is the loss of all samples in all of them.

        Args:
            k: The output.
            factors: ``[N]``, factors of the samples' losses; the divisor stays that of all samples.
        """
        if self.tasks[k].target not in self.targets:  # some other process or micro-batch has it
            return wide(self.outputs[k].flatten()[:0]).sum()
        values, weights = self._terms.pop(k, None) or self._term(k)
        weights = weights.to(values.dtype)
        values = values if factors is None else factors * values
        return (weights / self._total(k, weights) * values).sum()

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values`` ``[N]``, which samples without a target have too.

        Like a loss, it adds up over micro-batches and processes to that of all samples.
        """
        if self.average is None:
            return values.mean()
        return values.sum() / (self.share * self._over_processes.size.to(values))

    def sum(self, values: Tensor) -> Tensor:
        """Sum of ``values`` ``[N, ...]``, scaled so that it adds up as :meth:`mean` does."""
        return values.sum() * (self.processes / self.share)

    def values(self, k: int) -> Tensor:
        """Loss of each sample for the k-th output (from 0), ``[N]``."""
        if k not in self._terms:
            self._terms[k] = self._term(k)
        values: Tensor = self._terms[k][0]
        return values

    def weights(self, k: int) -> Tensor:
        """How much each sample counts for the k-th output (from 0), ``[N]``."""
        if k not in self._terms:
            self._terms[k] = self._term(k)
        weights: Tensor = self._terms[k][1]
        return weights

    def _term(self, k: int) -> tuple[Tensor, Tensor]:
        """Loss and weight of each sample, by the k-th output's task."""
        return self.tasks[k].loss(self.outputs[k], self.targets[self.tasks[k].target])

    def _total(self, k: int, weights: Tensor) -> Tensor:
        """Divisor of the weighted losses of these samples."""
        if self.average is not None:
            total = self.share * self._over_processes.weights[k].to(weights)
        else:
            total = weights.sum() if self.whole is None else self.share * self._whole_weights[k].to(weights)
        return torch.where(total > 0, total, 1)  # a batch in which nothing counts: loss 0

    def _is_here(self, k: int) -> bool:
        return self.tasks[k].target in (self.targets if self.whole is None else self.whole)

    @cached_property
    def _over_processes(self) -> _Means:
        """Means over the processes, of their whole batches.

        One message for all outputs, in which every process takes part: one that lacks a target too, or the
        others wait for it.
        """
        assert self.average is not None
        count = len(self.outputs)
        dtype = torch.float32
        for output in self.outputs:  # weights have one too, but not in a process without targets
            dtype = torch.promote_types(dtype, output.dtype)
        zero = torch.zeros((), dtype=dtype, device=self.outputs[0].device)
        here = [self._is_here(k) for k in range(count)]
        weights = [self._batch_weight(k, zero) if there else zero for k, there in enumerate(here)]
        size = zero + len(self.outputs[0]) / self.share
        means = self.average(torch.stack([*weights, *(zero + there for there in here), size]))
        return _Means(means[:count], means[count:-1], means[-1])

    def _batch_weight(self, k: int, like: Tensor) -> Tensor:
        """Sum of the weights of this process's batch, of which these samples may be a share."""
        if self.whole is None:
            return self.weights(k).sum().to(like) / self.share
        return self._whole_weights[k].to(like)

    @cached_property
    def _whole_weights(self) -> dict[int, Tensor]:
        """Sums of the weights of the whole batch's samples, by output that has a target.

        Weights do not depend on an output's values, but may on its shape: on the resolution of a dense one.
        """
        assert self.whole is not None
        known: dict[tuple[Task, torch.Size], Tensor] = {}
        sums = {}
        for k, output in enumerate(self.outputs):
            task = self.tasks[k]
            if not self._is_here(k):
                continue
            if (task, output.shape) not in known:
                blank = torch.zeros_like(output)
                parts = self.whole[task.target].to(blank.device).split(len(blank))
                terms = [task.loss(blank[: len(part)], part) for part in parts]
                known[task, output.shape] = torch.stack([weights.sum() for _, weights in terms]).sum()
            sums[k] = known[task, output.shape]
        return sums


class _Means(NamedTuple):
    """What the processes' batches are on average: weight and presence by output, ``[K]``, and samples."""

    weights: Tensor
    present: Tensor
    size: Tensor
