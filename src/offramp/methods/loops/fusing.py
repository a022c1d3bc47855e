"""The last pass of an epoch: what the stages left becomes one net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from offramp.data.batch import Batch
from offramp.distributed.batch_statistics import batch_statistics_together
from offramp.distributed.collectives import mean_all
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.copies import Copies
from offramp.methods.loops.fusion import Fusion
from offramp.methods.loops.loop import Losses, Progress
from offramp.methods.loops.staged import Staged

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["Fusing"]


class Fusing:
    """Trains the fusion on the sum of all losses, and nothing else. Processes share every batch.

    The pass runs the fused net in training mode, so that running statistics become those of the fused net.

    Args:
        context: Net, method and means.
        options: What the loop decides.
        fusion: What is trained.
        taus: When -> factor of each loss.

    Attributes:
        optimizer: What trains it; None if nothing is to be learnt.
        first: The fusion's variables before the epoch's first step.
        previous: The same before the last step.
    """

    def __init__(
        self,
        context: LoopContext,
        options: Staged,
        fusion: Fusion,
        taus: Callable[[Progress], Sequence[float]],
    ) -> None:
        self.context, self.options, self.fusion, self.taus = context, options, fusion, taus
        self.optimizer = options.fusion_optimizer(context, fusion)
        self.first: dict[str, Tensor] = {}
        self.previous: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Before the pass; the net holds what is not fused."""
        self.first = self.fusion.values()
        self.previous = self.first if self.options.lags else {}
        if self.options.fusion_fraction < 1:
            for layer in _norms(self.context.net):
                layer.reset_running_stats()

    def step(self, copies: Copies, batch: Batch, progress: Progress) -> Losses:
        """Train on one whole batch; the losses before, of this process's share."""
        context, fabric = self.context, self.context.fabric
        batch = batch.share(fabric.global_rank, fabric.world_size)
        optimizer = self.optimizer if self.options.learns(progress) else None
        with torch.set_grad_enabled(optimizer is not None):
            # nothing of the net itself is trained, so that its own gradients need not be computed
            tensors = {n: p.detach() for n, p in context.net.named_parameters()} | self.fusion.fuse(copies)
            with batch_statistics_together(context.net, fabric), self._statistics():
                found = context.forward(batch, progress, tensors=tensors)
            losses = context.bound.losses_of(found)
            if optimizer is not None:
                taus = self.taus(progress)
                total = torch.stack([t * loss for t, loss in zip(taus, losses, strict=True)]).sum()
                self._descend(optimizer, total, progress)
        return Losses.of(losses, found.present)

    def _descend(self, optimizer: _FabricOptimizer, loss: Tensor, progress: Progress) -> None:
        context = self.context
        if self.options.lags:
            self.previous = self.fusion.values()
        optimizer.zero_grad()
        context.fabric.backward(loss)
        for group in optimizer.param_groups:
            group["lr"] = self.options.fusion_rate(context, progress)
        mean_all([v.grad for group in optimizer.param_groups for v in group["params"]])
        optimizer.step()

    def end(self, copies: Copies, progress: Progress) -> dict[str, Tensor]:
        """After the pass: the fused parameters."""
        learnt = self.fusion.values()
        if self.options.lags:
            self.fusion.put(self.previous)
        with torch.no_grad():
            fused = self.fusion.fuse(copies)
        back = self.options.back(self.context, progress)
        self.fusion.put({name: torch.lerp(v, self.first[name], back) for name, v in learnt.items()})
        return fused

    @contextmanager
    def _statistics(self) -> Iterator[None]:
        """In a short pass, running statistics are the mean over its batches."""
        layers = _norms(self.context.net) if self.options.fusion_fraction < 1 else []
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.momentum = None
        try:
            yield
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum


def _norms(net: nn.Module) -> list[_BatchNorm]:
    """Those whose statistics move."""
    return [layer for layer in net.modules() if isinstance(layer, _BatchNorm) and layer.training]
