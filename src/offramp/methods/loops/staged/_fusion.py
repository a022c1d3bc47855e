"""Last phase of an epoch: the states that the outputs' phases left become one net."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from offramp.data.batch import Batch
from offramp.distributed.batch_statistics import batch_statistics_together
from offramp.distributed.collectives import mean_all
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.loop import Losses
from offramp.methods.loops.progress import Progress
from offramp.methods.loops.staged._copies import Copies
from offramp.methods.loops.staged._learned_mean import LearnedMean
from offramp.methods.loops.staged._options import StagedLoop

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["Fusion", "adam"]


class Fusion:
    """Trains the weights of a mean on the sum of all losses, and nothing else. Processes share every batch.

    The phase runs the fused net in training mode, so that running statistics become those of the fused net.

    Args:
        context: The net, the method and the means to train.
        options: Options of the loop.
        mean: The mean whose weights are trained.
        optimizer: What trains them; None if nothing is learned.
        taus: Progress -> factor of each output's loss.

    Attributes:
        initial: Learned variables before the epoch's first step.
        previous: Learned variables before the last step.
    """

    def __init__(
        self,
        context: LoopContext,
        options: StagedLoop,
        mean: LearnedMean,
        optimizer: _FabricOptimizer | None,
        taus: Callable[[Progress], Sequence[float]],
    ) -> None:
        self.context, self.options, self.mean, self.taus = context, options, mean, taus
        self.optimizer = optimizer
        self.initial: dict[str, Tensor] = {}
        self.previous: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Prepare the phase; the net holds what is not fused."""
        self.initial = self.mean.values()
        self.previous = self.initial if self.options.lags else {}
        if self.options.fusion_fraction < 1:
            for layer in _moving_norms(self.context.net):
                layer.reset_running_stats()

    def step(self, copies: Copies, batch: Batch, progress: Progress) -> Losses:
        """Train on one whole batch; return this process's share of the losses before the step."""
        context, fabric = self.context, self.context.fabric
        batch = batch.share(fabric.global_rank, fabric.world_size)
        optimizer = self.optimizer if self.options.learns_in(progress.epoch) else None
        with torch.set_grad_enabled(optimizer is not None):
            # nothing of the net itself is trained, so that its own gradients need not be computed
            tensors = {n: p.detach() for n, p in context.net.named_parameters()} | self.mean.fused(copies)
            with batch_statistics_together(context.net, fabric), self._cumulative_statistics():
                step = context.forward(batch, progress, tensors=tensors)
            losses = context.bound.losses_of(step)
            if optimizer is not None and losses:
                taus = self.taus(progress)
                weighted = [taus[k] * loss for k, loss in zip(step.present, losses, strict=True)]
                self._descend(optimizer, torch.stack(weighted).sum(), progress)
        return Losses.of(step, losses)

    def _descend(self, optimizer: _FabricOptimizer, loss: Tensor, progress: Progress) -> None:
        context = self.context
        if self.options.lags:
            self.previous = self.mean.values()
        optimizer.zero_grad()
        context.fabric.backward(loss)
        for group in optimizer.param_groups:
            group["lr"] = self.options.fusion_lr_at(progress, context.epochs)
        mean_all([v.grad for group in optimizer.param_groups for v in group["params"]])
        optimizer.step()

    def end(self, copies: Copies, progress: Progress) -> dict[str, Tensor]:
        """Conclude the phase: the fused parameters, by name."""
        learned = self.mean.values()
        if self.options.lags:
            self.mean.put(self.previous)
        with torch.no_grad():
            fused = self.mean.fused(copies)
        ema = self.options.ema_after(progress.epoch, self.context.epochs)
        self.mean.put({name: torch.lerp(v, self.initial[name], ema) for name, v in learned.items()})
        return fused

    @contextmanager
    def _cumulative_statistics(self) -> Iterator[None]:
        """In a short phase, have running statistics be the mean over its batches."""
        layers = _moving_norms(self.context.net) if self.options.fusion_fraction < 1 else []
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.momentum = None
        try:
            yield
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum


def _moving_norms(net: nn.Module) -> list[_BatchNorm]:
    """Batch norm layers whose running statistics move."""
    return [layer for layer in net.modules() if isinstance(layer, _BatchNorm) and layer.training]


def adam(variables: Iterable[nn.Parameter], lr: float, fabric: Fabric) -> _FabricOptimizer | None:
    """Adam for the weights of a mean; None if there are none to learn."""
    variables = list(variables)
    if not variables:
        return None
    return cast("_FabricOptimizer", fabric.setup_optimizers(torch.optim.Adam(variables, lr=lr)))
