"""Training of a copy of the net for one output, its own loss first and the others' as auxiliary losses."""

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
from offramp.methods.loops.loop import Losses
from offramp.methods.loops.progress import Progress
from offramp.methods.loops.staged._importance import Importance
from offramp.methods.loops.staged._options import StagedLoop
from offramp.methods.objectives import Step, TaskLoss
from offramp.methods.objectives.ramp import tau_max, taus
from offramp.nets import MultiExitNet

__all__ = ["OutputTraining"]


class OutputTraining:
    """Trains the net for one output after the other, through gated weights if there is importance.

    Args:
        context: The net, the method and the means to train.
        options: Options of the loop.
        importance: The importance variables, or None.
        outputs: Outputs that this process trains the net for, in order.
        shared: Names of the parameters that two outputs or more own.

    Attributes:
        optimizers: Output -> its optimiser.
        norms: Running means of the losses' gradient norms, and the epoch of their last values, where needed.
    """

    def __init__(
        self,
        context: LoopContext,
        options: StagedLoop,
        importance: Importance | None,
        outputs: Sequence[int],
        shared: Collection[str],
    ) -> None:
        self.context, self.options, self.importance = context, options, importance
        self.shared = shared
        self.norms: dict[str, Any] = {}
        self.tau_max = tau_max(context.net) if options.ramp else None
        self.optimizers: dict[int, Any] = {}
        weights = [p for p in context.net.parameters() if p.requires_grad]
        for output in outputs:
            groups: list[dict[str, Any]] = [{"params": weights}]
            if importance is not None:
                one_for_all = options.optimizers == "shared"
                nu = list(importance.parameters()) if one_for_all else importance.trained(output)
                groups.append({"params": nu, "weight_decay": importance.decay})
            if options.optimizers == "per-task" or not self.optimizers:
                optimizer = context.optimizer([group for group in groups if group["params"]])
            self.optimizers[output] = optimizer
        # a forward pass can stop early if each loss reads its own output only
        plain = type(context.bound.objective) is TaskLoss and context.bound.weights is None
        self.stops = plain and isinstance(context.net, MultiExitNet)

    def taus(self, progress: Progress) -> list[float]:
        """Factor of each output's loss by the ramp; 1 without it."""
        if self.tau_max is None:
            return [1.0] * len(self.context.tasks)
        return taus(self.tau_max, progress.epoch / self.context.epochs)

    def forward(
        self,
        output: int,
        batch: Batch,
        progress: Progress,
        *,
        together: bool = False,
        parameters: Mapping[str, Tensor] | None = None,
        exits: int | None = None,
    ) -> Step:
        """Run the net as the phase of an output does.

        Args:
            output: Index of the output.
            batch: The samples.
            progress: How far the training is.
            together: Whether the processes share the batch.
            parameters: Parameters to take instead of the net's, by name.
            exits: Stop after so many exits.
        """
        keywords: dict[str, Any] = {"together": together} | ({} if exits is None else {"exits": exits})
        tensors = dict(parameters or {})
        importance = self.importance_at(progress)
        if importance is not None:
            weights = dict(self.context.net.named_parameters()) | tensors
            tensors |= importance.gated_weights(weights, output)
            with importance.first_calls(self.context.net, weights):
                return self.context.forward(batch, progress, tensors=tensors, **keywords)
        if tensors:
            keywords["tensors"] = tensors
        return self.context.forward(batch, progress, **keywords)

    def step(
        self,
        output: int,
        factors: Sequence[float],
        batch: Batch,
        progress: Progress,
        *,
        together: bool = False,
    ) -> Losses:
        """Train on one batch, of which each process takes its share if they train together.

        The batch's losses are added up, each times its factor. A batch without any of them, since it lacks
        their targets or they reach nothing trainable, moves nothing but running statistics.

        Returns:
            The losses before, of the outputs that ran and had a target.
        """
        context, optimizer = self.context, self.optimizers[output]
        fabric = context.fabric
        if together:
            batch = batch.share(fabric.global_rank, fabric.world_size)
        last = max(k for k, factor in enumerate(factors) if factor)
        exits = last + 1 if self.stops and last + 1 < len(factors) else None
        with batch_statistics_together(context.net, fabric) if together else nullcontext():
            step = self.forward(output, batch, progress, together=together, exits=exits)
        losses = context.bound.losses_of(step)
        weighted = [factors[k] * loss for k, loss in zip(step.present, losses, strict=True) if factors[k]]
        total = torch.stack(weighted).sum() if weighted else None
        if total is not None and total.requires_grad:
            self._descend(optimizer, output, total, progress, together=together)
        return Losses.of(step, losses)

    def _descend(
        self, optimizer: Any, output: int, loss: Tensor, progress: Progress, *, together: bool
    ) -> None:
        for group in optimizer.param_groups:
            group["lr"] = progress.lr
        optimizer.zero_grad()
        self.context.fabric.backward(loss)
        if together:
            mean_all([p.grad for group in optimizer.param_groups for p in group["params"]])
        trained: list[nn.Module] = [self.context.net]
        importance = self.importance_at(progress)
        if importance is not None:
            self._penalise(importance, output)
            trained.append(nn.ParameterList(importance.trained(output)))
        self.context.update(optimizer, *trained)

    def _penalise(self, importance: Importance, output: int) -> None:
        """Add the gradient of lambda times the sum of nu_k squared (DR-MGF, Eq 11)."""
        factor = importance.penalty * self.context.scale()
        for nu in importance.own(output) if factor else ():
            (slope,) = torch.autograd.grad(importance.positive(nu).square().sum(), nu)
            nu.grad = slope * factor if nu.grad is None else nu.grad.add_(slope, alpha=factor)

    def state_for(self, output: int, progress: Progress) -> dict[str, Tensor]:
        """State of the net after the phase of an output, with gated weights in place of raw ones."""
        state = dict(self.context.net.state_dict())
        importance = self.importance_at(progress)
        if importance is not None:
            with torch.no_grad():
                state |= importance.gated_weights(state, output) | importance.with_first_norms(state)
        return state

    def importance_at(self, progress: Progress) -> Importance | None:
        """The importance variables, if the phases of this epoch train gated weights."""
        return self.importance if self.options.gated_in(progress.epoch, self.context.epochs) else None
