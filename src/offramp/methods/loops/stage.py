"""One task's stage: the task's loss first, the others' by the way, through gated weights if it has routes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from offramp.data.batch import Batch
from offramp.distributed.batch_statistics import batch_statistics_together
from offramp.distributed.collectives import mean_all
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.loop import Losses, Progress
from offramp.methods.loops.routes import Routes
from offramp.methods.loops.staged import Staged
from offramp.methods.objectives import Step, TaskLoss
from offramp.methods.objectives.ramp import tau_max, taus
from offramp.nets import MultiExitNet

__all__ = ["Stage"]


class Stage:
    """Trains the net for one task after the other.

    Args:
        context: Net, method and means.
        options: What the loop decides.
        routes: The importance variables, or None.
        tasks: Those of this process.
        shared: Names of the parameters that two tasks or more own.

    Attributes:
        optimizers: Of each task.
        norms: A running mean of each loss's gradient norm and the epoch of its last value, where needed.
    """

    def __init__(
        self,
        context: LoopContext,
        options: Staged,
        routes: Routes | None,
        tasks: Sequence[int],
        shared: Collection[str],
    ) -> None:
        self.context, self.options, self.routes, self.shared = context, options, routes, shared
        self.norms: dict[str, Any] = {}
        self.tops = tau_max(context.net) if options.ramp else None
        self.optimizers: dict[int, Any] = {}
        weights = [p for p in context.net.parameters() if p.requires_grad]
        for task in tasks:
            groups: list[dict[str, Any]] = [{"params": weights}]
            if routes is not None:
                one_for_all = options.optimizers == "shared"
                nu = list(routes.parameters()) if one_for_all else routes.trained(task)
                groups.append({"params": nu, "weight_decay": routes.decay})
            if options.optimizers == "per-task" or not self.optimizers:
                optimizer = context.optimizer([group for group in groups if group["params"]])
            self.optimizers[task] = optimizer
        # a forward pass can stop early if each loss reads its own output only
        plain = type(context.bound.objective) is TaskLoss and context.bound.weights is None
        self.stops = plain and isinstance(context.net, MultiExitNet)

    def taus(self, progress: Progress) -> list[float]:
        """Every task's factor from the ramp; 1 without it."""
        if self.tops is None:
            return [1.0] * len(self.context.net.outputs)
        return taus(self.tops, progress.epoch / self.context.epochs)

    def forward(
        self,
        task: int,
        batch: Batch,
        progress: Progress,
        *,
        together: bool = False,
        moved: Mapping[str, Tensor] | None = None,
        exits: int | None = None,
    ) -> Step:
        """The forward pass of a task's stage.

        Args:
            task: Which, from 0.
            batch: The samples.
            progress: When this is.
            together: Whether the processes share the batch.
            moved: Parameters to take instead of the net's, by name.
            exits: Stop after so many exits.
        """
        how: dict[str, Any] = {"together": together} | ({} if exits is None else {"exits": exits})
        tensors = dict(moved or {})
        if self.routes is not None and self.options.routed(self.context, progress):
            weights = dict(self.context.net.named_parameters()) | tensors
            tensors |= self.routes.weights(weights, task)
            with self.routes.first_calls(self.context.net, weights):
                return self.context.forward(batch, progress, tensors=tensors, **how)
        if tensors:
            how["tensors"] = tensors
        return self.context.forward(batch, progress, **how)

    def step(
        self,
        task: int,
        factors: Sequence[float],
        batch: Batch,
        progress: Progress,
        *,
        together: bool = False,
    ) -> Losses:
        """Train on one batch, of which each process takes its share if they go together.

        Returns:
            The losses before, of the exits that ran.
        """
        context, optimizer = self.context, self.optimizers[task]
        fabric = context.fabric
        if together:
            batch = batch.share(fabric.global_rank, fabric.world_size)
        for group in optimizer.param_groups:
            group["lr"] = progress.lr
        last = max(k for k, factor in enumerate(factors) if factor)
        exits = last + 1 if self.stops and last + 1 < len(factors) else None
        with batch_statistics_together(context.net, fabric) if together else nullcontext():
            found = self.forward(task, batch, progress, together=together, exits=exits)
        losses = context.bound.losses_of(found)
        total = torch.stack([f * loss for f, loss in zip(factors, losses, strict=False) if f]).sum()
        if (
            not total.requires_grad
        ):  # the losses that the stage heeds have no weight, or reach frozen parts only
            return Losses.of(losses, found.present)
        optimizer.zero_grad()
        fabric.backward(total)
        if together:
            mean_all([p.grad for group in optimizer.param_groups for p in group["params"]])
        trained: list[nn.Module] = [context.net]
        if self.routes is not None and self.options.routed(context, progress):
            self._penalise(self.routes, task)
            trained.append(nn.ParameterList(self.routes.trained(task)))
        context.update(optimizer, *trained)
        return Losses.of(losses, found.present)

    def _penalise(self, routes: Routes, task: int) -> None:
        """Add the gradient of lambda times the sum of nu_k squared (DR-MGF, Eq 11)."""
        factor = routes.penalty * self.context.scale()
        for nu in routes.own(task) if factor else ():
            (slope,) = torch.autograd.grad(routes.positive(nu).square().sum(), nu)
            nu.grad = slope * factor if nu.grad is None else nu.grad.add_(slope, alpha=factor)

    def left(self, task: int, progress: Progress) -> dict[str, Tensor]:
        """What the stage has made of the net: its state, with gated weights in the place of raw ones."""
        state = dict(self.context.net.state_dict())
        if self.routes is not None and self.options.routed(self.context, progress):
            with torch.no_grad():
                state |= self.routes.weights(state, task) | self.routes.rewritten(state)
        return state
