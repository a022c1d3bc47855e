"""Plain loop: one batch, one step of the optimiser.

To fit in memory a batch can be cut into micro-batches of nearly equal size. One after the other goes forward
and backward and is freed. The losses of each count for its share of the batch, and what they leave adds up to
what the whole batch would have given: the gradient of the losses' sum, or each loss's row, and rows are
combined once, after the last micro-batch. So a step is the one of the whole batch, up to rounding, whatever
the method, the loss scaling and the number of processes. Batch norm is the exception: it normalises over
what it is given, a micro-batch, and its running statistics move once for each of them.

With ``accumulate="auto"`` batches are whole at first. When a step runs out of memory it is done again, with
the same samples in twice as many micro-batches, and so are all steps after it.

Rows wait for the last micro-batch, so that a method that works on them keeps those of all stages, and not of
one at a time: about (K + 1) / 2 times the parameters that K exits at equal distances share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from offramp.copying import values_kept
from offramp.data.batch import Batch
from offramp.methods.loops._micro_batches import MicroBatches
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.loop import BoundLoop, Loop, Losses, Phase
from offramp.methods.loops.progress import Progress
from offramp.modes import buffers_kept
from offramp.restoring import load_module, load_optimizer

__all__ = ["Minibatch"]


@dataclass(frozen=True, kw_only=True)
class Minibatch(Loop):
    """An epoch is one run over the training images: forward, objective, combiner, clip, optimiser."""

    whole_batch = ""

    def bind(self, context: LoopContext) -> BoundLoop:  # noqa: D102
        return _Descent(context)


class _Descent(BoundLoop):
    phases = (Phase(),)

    def __init__(self, context: LoopContext) -> None:
        self.context, self.cutting = context, MicroBatches(context)
        modules = (context.net, context.bound)
        self.optimizer = context.optimizer([p for m in modules for p in m.parameters() if p.requires_grad])

    @property
    def micro_batches(self) -> int:
        return self.cutting.count

    def step(self, phase: int, batch: Batch, progress: Progress) -> Losses:
        context = self.context
        for group in self.optimizer.param_groups:
            group["lr"] = progress.lr * group.get("lr_factor", 1.0)  # the recipe's groups
        start_again = self._start() if context.bound.looks_back else None

        def gradients(context: LoopContext, micro_batches: list[Batch]) -> list[Losses]:
            self.optimizer.zero_grad()
            return [
                _descend(context, micro_batch, batch, progress, more=number < len(micro_batches))
                for number, micro_batch in enumerate(micro_batches, 1)
            ]

        losses = self.cutting.run(batch, gradients)
        if losses[0].outputs:  # some output has a target
            context.average_gradients()
            context.update(self.optimizer, context.net, context.bound)
            if start_again is not None:
                self._look_back(batch, progress, start_again)
        return Losses(torch.stack([each.values for each in losses]).sum(0), losses[0].outputs)

    def _start(self) -> Callable[[], None]:
        """Keep what a pass over a batch starts from; return a function that puts it back.

        That is the states of the random generators, and what the objective remembers.
        """
        device = self.context.fabric.device
        draws = torch.get_rng_state()
        cuda_draws = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        remembered = [values_kept(buffer) for buffer in self._objective.buffers()]

        def start_again() -> None:
            torch.set_rng_state(draws)
            if cuda_draws is not None:
                torch.cuda.set_rng_state(cuda_draws, device)
            for put_back in remembered:
                put_back()

        return start_again

    def _look_back(self, batch: Batch, progress: Progress, start_again: Callable[[], None]) -> None:
        """Forward pass over the batch after the step, as the one before it, which leaves no trace."""
        context, device = self.context, self.context.fabric.device
        draws_kept = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with torch.no_grad(), draws_kept, buffers_kept(context.net), buffers_kept(self._objective):
            start_again()
            context.bound.look_back(context.forward(batch, progress))

    @property
    def _objective(self) -> nn.Module:
        """The objective's memory, if it has one."""
        objective = self.context.bound.objective
        return objective if isinstance(objective, nn.Module) else nn.Module()

    def state(self) -> dict[str, Any]:
        return {
            "method": self.context.bound.state_dict(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            **self.cutting.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        load_module(self.context.bound, state["method"])
        load_optimizer(self.optimizer.optimizer, state["optimizer"])
        self.cutting.load(state)


def _descend(
    context: LoopContext, micro_batch: Batch, batch: Batch, progress: Progress, *, more: bool
) -> Losses:
    """Add a micro-batch's gradients; its part of the losses, and nothing else of it stays in memory."""
    with context.averaging(now=not more):
        whole = None if micro_batch is batch else batch
        step = context.forward(micro_batch, progress, whole=whole, more=more)
        losses = context.bound.losses_of(step)
        if losses:
            context.bound.combine(losses, step, context.backward())
    return Losses.of(step, [step.share * loss.detach() for loss in losses])
