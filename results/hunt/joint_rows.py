"""DR-MGF at a smaller cost: the copies of an epoch follow gradients that are taken at their common mean.

A trial of the hunt, not a method of offramp's table. DR-MGF trains a copy of the net for each exit in turn,
each on a run over the images of its own: K runs, and one for the fusion. Here all copies move in one run. At
each step one forward pass goes through the mean of the (gated) copies, the Jacobian engine takes the gradient
of each exit's loss there, and each copy takes its own step by its own sum of them. At the beginning of an
epoch, where the copies agree, that is what DR-MGF does. With ``correct=n``, at every n-th step each copy's
gradient is also taken where it is, and the difference is added to what it follows until the next time.

    python results/hunt/joint_rows.py --data path/to/cifar10 --epochs 14 --correct 0 --out runs/joint-rows
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from _trial import flags, train
from torch import Tensor

from offramp.data import Batch
from offramp.methods import Method
from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.loops import BoundLoop, LoopContext, Losses, Phase, Progress
from offramp.methods.loops.staged import DRMGF
from offramp.methods.loops.staged._bound import BoundStagedLoop
from offramp.methods.passes import EACH, K, Passes
from offramp.modes import buffers_kept


@dataclass(frozen=True, kw_only=True)
class JointRows(DRMGF):
    """DR-MGF whose copies follow gradients taken at their mean.

    Attributes:
        correct: Take each copy's own gradient too, once in so many steps; 0: never.
    """

    correct: int = 0

    @property
    def passes(self) -> Passes:  # noqa: D102
        own = Passes(K / self.correct, K / self.correct) if self.correct else Passes(0, 0)
        return Passes(1, EACH) + own + Passes(1, 1)

    def bind(self, context: LoopContext) -> BoundLoop:  # noqa: D102
        bound = cast("BoundStagedLoop", super().bind(context))
        return _BoundJointRows(
            context,
            self,
            owners=bound.owners,
            mean=bound.mean,
            optimizer=bound.fusion.optimizer,
            factors=self.factors,
            importance=bound.importance,
        )


class _BoundJointRows(BoundStagedLoop):
    def __init__(self, context: LoopContext, options: JointRows, **rest: Any) -> None:
        super().__init__(context, options, **rest)
        self.correct = options.correct
        self.exits = range(len(self.context.tasks))
        self.phases = (Phase("copies", draw=0, draws=2), Phase("fusion", draw=1, draws=2))
        self.jacobian = Jacobian(self.context.net)
        self.names = {p: name for name, p in self.context.net.named_parameters()}
        self.raw: list[dict[str, Tensor]] = []  # exit -> its copy
        self.drift: list[dict[str, Tensor]] = []  # exit -> gradient where the copy is, less that at the mean
        self.steps = 0

    def _output(self, phase: int) -> int | None:
        return None if phase == 1 else 0

    def begin(self, phase: int, progress: Progress) -> None:
        super().begin(phase, progress)
        if phase == 0:
            start = {name: p.detach().clone() for name, p in self.context.net.named_parameters()}
            self.raw = [{name: t.clone() for name, t in start.items()} for _ in self.exits]
            self.drift = [{} for _ in self.exits]
            self.rates = [self.find_factors(self.training, k, progress) for k in self.exits]

    def step(self, phase: int, batch: Batch, progress: Progress) -> Losses:
        if phase == 1:
            return super().step(phase, batch, progress)
        context, net = self.context, self.context.net
        copies = [self._gated(k, progress) for k in self.exits]
        self._put(self._mean_of(copies))
        net.zero_grad()
        step = context.forward(batch, progress)
        losses = context.bound.losses_of(step)
        rows: list[dict[str, Tensor]] = [{} for _ in self.exits]
        for block in self.jacobian.blocks(losses, step, context.backward()):
            for k, row in zip(block.owners, block.rows, strict=True):
                rows[k] |= {
                    self.names[p]: g for p, g in zip(block.parameters, row, strict=True) if g is not None
                }
        for name, p in net.named_parameters():  # those with one owner
            if p.grad is not None:
                rows[self.owners[name][0]][name] = p.grad.clone()
        wanted = [_sum_of(rows, self.rates[k]) for k in self.exits]
        if self.correct and self.steps % self.correct == 0:
            for k in self.exits:
                own = self._own_gradient(k, copies[k], batch, progress)
                self.drift[k] = {name: g - wanted[k][name] for name, g in own.items() if name in wanted[k]}
        for k in self.exits:
            self._move(k, wanted[k], progress)
        self.steps += 1
        return Losses.of(step, losses)

    def end(self, phase: int, progress: Progress) -> None:
        if phase == 1:
            super().end(phase, progress)
            return
        for k in self.exits:
            self._put(self.raw[k])
            self.copies.keep(k, self.training.state_for(k, progress))

    def _gated(self, k: int, progress: Progress) -> dict[str, Tensor]:
        """The copy of an exit as the net computes with it."""
        importance = self.training.importance_at(progress)
        with torch.no_grad():
            return self.raw[k] | ({} if importance is None else importance.gated_weights(self.raw[k], k))

    def _mean_of(self, copies: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {
            name: torch.stack([copies[k][name] for k in self.owners[name]]).mean(0)
            for name in copies[0]
            if self.owners.get(name)
        }

    def _own_gradient(
        self, k: int, copy: Mapping[str, Tensor], batch: Batch, progress: Progress
    ) -> dict[str, Tensor]:
        """Gradient of the sum that an exit's copy descends, by gated weights, where the copy is."""
        net = self.context.net
        self._put(copy)
        parameters = {n: p for n, p in net.named_parameters() if k in self.owners[n] and p.requires_grad}
        with buffers_kept(net):
            step = self.context.forward(batch, progress)
            losses = self.context.bound.losses_of(step)
            total = torch.stack([r * f for r, f in zip(self.rates[k], losses, strict=True)]).sum()
            grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        return {name: g for name, g in zip(parameters, grads, strict=True) if g is not None}

    def _move(self, k: int, wanted: Mapping[str, Tensor], progress: Progress) -> None:
        """Take a step of the copy of an exit, and of its importance."""
        net, optimizer = self.context.net, self.training.optimizers[k]
        for group in optimizer.param_groups:
            group["lr"] = progress.lr
        optimizer.zero_grad()
        self._put(self.raw[k])
        parameters = dict(net.named_parameters())
        gradient = {n: g + self.drift[k][n] if n in self.drift[k] else g for n, g in wanted.items()}
        gradient = {n: g for n, g in gradient.items() if k in self.owners[n]}
        importance = self.training.importance_at(progress)
        trained = [net]
        if importance is not None:
            gated = importance.gated_weights(parameters, k)
            gated = {name: weight for name, weight in gated.items() if name in gradient}
            torch.autograd.backward(list(gated.values()), [gradient.pop(name) for name in gated])
            self.training._penalise(importance, k)
            trained.append(torch.nn.ParameterList(importance.trained(k)))
        for name, g in gradient.items():
            parameters[name].grad = g
        self.context.update(optimizer, *trained)
        self.raw[k] = {name: p.detach().clone() for name, p in parameters.items()}


def _sum_of(rows: list[dict[str, Tensor]], rates: list[float]) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for row, rate in zip(rows, rates, strict=True):
        for name, g in row.items():
            total[name] = total[name].add(g, alpha=rate) if name in total else g * rate
    return total


def main() -> None:
    """Train by the flags of the command line."""
    parser = flags(__doc__.splitlines()[0])
    parser.add_argument("--correct", type=int, default=0)
    args = parser.parse_args()
    loop = JointRows(correct=args.correct)
    train(args, Method("joint-rows", "DR-MGF at the mean of its copies", "", {"loop": loop}))


if __name__ == "__main__":
    main()
