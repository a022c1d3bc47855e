"""Bilevel loop: weights of losses are learned by what a step under them does to the loss of other samples.

The lower level is the training of the net, the upper one that of the weights phi. Of each batch:

1. The net runs on it, and the gradient g(phi) of the weighted losses is taken.
2. A *virtual step* theta'(g) is the one that the recipe's optimiser would take, with its momentum, moments,
   decay and clipping (:mod:`offramp.methods.loops._virtual_step`).
3. The net with theta' runs on other samples. The gradient of its *outer loss*, in which the weights have no
   part, goes back to g: p, of SGD -lr times the gradient at theta'. Forks cut nothing of it.
4. The slope of the weights, d(g . p)/d(phi), is exact: one more backward pass, through that of g. In the
   weight w_k of a loss it is g_k . p, with the loss's own gradient, whatever forks have done to that. No row
   is kept, and there is no step size, as a difference of losses would need. It costs two backward passes,
   since torch's second derivative of a convolution finds twice what is asked for.
5. An Adam moves the weights, and the net takes its step under the new ones: a backward pass through the
   forward pass of 1.

Only the forward pass of 1 moves running statistics, draws for dropout from the training's random numbers, and
shows the batch to an objective that remembers: with weights that stand still the training is joint training
with these weights, bit for bit. The published codes move running statistics in every pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from offramp.attention import plain_attention
from offramp.checks import choice, number, whole
from offramp.data.batch import Batch
from offramp.methods.loops._second_derivatives import check_second_derivatives
from offramp.methods.loops._weight_gradient import weight_gradient
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.loop import BoundLoop, Loop, Losses, Phase
from offramp.methods.loops.progress import Progress
from offramp.methods.objectives import Step
from offramp.methods.passes import Passes
from offramp.restoring import load_module, load_optimizer
from offramp.stored_values import check_whole

__all__ = ["Bilevel"]


@dataclass(frozen=True, kw_only=True)
class Bilevel(Loop):
    """Before a step the weights of the losses move, so that the step helps on other samples.

    Attributes:
        outer: Which samples these are: ``second``: another training batch; ``halves``: the other half of the
            batch, which is cut in two for two steps, each half in turn.
        held_out: Share of the training samples that is held out for them, in place of ``outer``; they
            choose nothing but the weights of the losses.
        every: Steps of the training between two steps of the weights, counted in batches.

    Raises:
        UserError: A value out of its range.
    """

    own_backward: ClassVar[bool] = True
    bilevel: ClassVar[bool] = True
    in_words: ClassVar[str] = "takes a virtual step on one batch and looks at another"
    outer: str = "second"
    held_out: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        choice(self, "outer", ("second", "halves"))
        number(self, "held_out", "from 0 to below 1, a share of the samples", lambda share: 0 <= share < 1)
        whole(self, "every", 1)

    @property
    def parts(self) -> int:  # noqa: D102
        return 2 if self.outer == "halves" and not self.held_out else 1

    @property
    def passes(self) -> Passes:  # noqa: D102
        return Passes(1 + 1 / self.every, 1 + 4 / self.every)

    def bind(self, context: LoopContext) -> BoundLoop:  # noqa: D102
        return _BoundBilevel(context, self)


class _BoundBilevel(BoundLoop):
    phases = (Phase(),)

    def __init__(self, context: LoopContext, options: Bilevel) -> None:
        self.context, self.options = context, options
        modules = (context.net, context.bound)
        self.optimizer = context.optimizer([p for m in modules for p in m.parameters() if p.requires_grad])
        check_second_derivatives(context, self.optimizer.optimizer)
        self.steps = 0
        self.others: Iterator[Batch] | None = None

    def step(self, phase: int, batch: Batch, progress: Progress) -> Losses:
        for group in self.optimizer.param_groups:
            group["lr"] = progress.lr * group.get("lr_factor", 1.0)  # the recipe's groups
        losses = [self._descend(part, other, progress) for part, other in self._pairs(batch)]
        self.steps += 1
        return _mean(losses, len(self.context.tasks))

    def _pairs(self, batch: Batch) -> list[tuple[Batch, Batch | None]]:
        """What to train on, and the samples of the outer loss; None: the weights stay."""
        moves = self.steps % self.options.every == 0
        if self.options.parts == 1:
            return [(batch, self._other() if moves else None)]
        first, second = batch.split(2)
        return [(first, second if moves else None), (second, first if moves else None)]

    def _other(self) -> Batch:
        if self.others is None:
            self.others = self.context.outer(self.steps // self.options.every)
        return next(self.others)

    def _descend(self, batch: Batch, other: Batch | None, progress: Progress) -> Losses:
        """Move the weights if there are other samples for that, and take a step of the net's optimiser."""
        context, bound = self.context, self.context.bound
        if other is None:
            step = context.forward(batch, progress)
        else:
            with plain_attention():  # fused attention has no second derivative, nor has a compiled net
                step = context.plain().forward(batch, progress)
            if step.present:
                self._move_weights(step, other, progress)
        losses = bound.losses_of(step)
        if losses:
            self.optimizer.zero_grad()
            bound.combine(losses, step, context.backward())
            context.average_gradients()
            context.update(self.optimizer, context.net, bound)
        return Losses.of(step, losses)

    def _move_weights(self, step: Step, other: Batch, progress: Progress) -> None:
        learner = self.context.bound.learner
        gradient = weight_gradient(
            self.context, self.optimizer.optimizer, step, other, progress, number=self.steps
        )
        if gradient is not None:
            reached = learner.reached(step)
            learner.learned.descend(gradient[reached], reached)

    def state(self) -> dict[str, Any]:
        return {
            "method": self.context.bound.state_dict(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        check_whole(state["steps"], "steps", 0)
        load_module(self.context.bound, state["method"])
        load_optimizer(self.optimizer.optimizer, state["optimizer"])
        self.steps, self.others = state["steps"], None


def _mean(losses: Sequence[Losses], count: int) -> Losses:
    """Mean of the losses of several steps; of an output, over those that had one."""
    if len(losses) == 1:
        return losses[0]
    sums, counts = losses[0].values.new_zeros(2, count)
    for each in losses:
        sums[each.index] += each.values
        counts[each.index] += 1
    outputs = sorted({k for each in losses for k in each.outputs})
    return Losses(sums[outputs] / counts[outputs], outputs)
