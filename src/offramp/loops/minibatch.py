"""The plain loop: one batch, one step of the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from offramp.combiners import Backward
from offramp.objectives import Step
from offramp.running import Running

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["Minibatch"]


@dataclass(frozen=True)
class Minibatch:
    """Trains on one batch at a time: forward, objective, combiner, clip, optimiser.

    Attributes:
        model: The net's forward pass under precision and data parallelism, perhaps compiled.
        net: The net itself.
        running: The method at work.
        optimizer: As Fabric wrapped it.
        fabric: Runs the backward passes and clips.
        backward: How the combiner gets gradients.
        epochs: How many there will be.
        compiled: Whether the model is compiled; the features between its stages are out of reach then.
        label_smoothing: Mass of the target spread over all classes.
        clip: Largest norm of the whole gradient; 0 leaves it alone.
    """

    model: Callable[..., Any]
    net: nn.Module
    running: Running
    optimizer: _FabricOptimizer
    fabric: Fabric
    epochs: int
    compiled: bool = False
    label_smoothing: float = 0.0
    clip: float = 0.0

    def step(self, images: Tensor, targets: Tensor, *, epoch: int, progress: float) -> Tensor:
        """Train on one batch.

        Args:
            images: ``[N, C, H, W]``.
            targets: Class indices ``[N]``.
            epoch: Whole epochs done.
            progress: Share of the training done, from 0 to 1.

        Returns:
            The K losses before the step, detached.
        """
        found = self._forward(images, targets, epoch, progress)
        losses = self.running.losses(found)
        self.optimizer.zero_grad()
        self.running.combine(losses, found, self._backward())
        self._average_own()
        if self.clip:
            everything = nn.ModuleList([self.net, self.running])
            # under loss scaling an overflow is normal: the scaler sees it too and skips the step
            self.fabric.clip_gradients(
                everything, self.optimizer, max_norm=self.clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        return torch.stack(list(losses)).detach()

    def _forward(self, images: Tensor, targets: Tensor, epoch: int, progress: float) -> Step:
        features = trunk = None
        if self.running.needs & ({"features"} if self.compiled else {"features", "trunk"}):
            outputs, features, trunk = self.model(images, keep=True)
        else:
            outputs = self.model(images)

        def part(share: float) -> tuple[list[Tensor], Step]:
            count = max(2, round(share * len(images)))  # batch norm cannot do with one value for each channel
            with _buffers_kept(self.net), _buffers_kept(self.running):
                found = self._forward(images[:count], targets[:count], epoch, progress)
                return self.running.losses(found), found

        return Step(
            self.net,
            outputs,
            targets,
            progress=progress,
            epoch=epoch,
            epochs=self.epochs,
            label_smoothing=self.label_smoothing,
            features=features,
            trunk=None if self.compiled else trunk,
            part=part,
        )

    def _backward(self) -> Backward:
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        scale = 1.0 if scaler is None else float(scaler.scale(torch.ones((), device=self.fabric.device)))
        return Backward(self.fabric.backward, scale, self._average if self.fabric.world_size > 1 else None)

    def _average(self, tensor: Tensor) -> None:
        tensor.copy_(cast("Tensor", self.fabric.all_reduce(tensor, reduce_op="mean")))

    def _average_own(self) -> None:
        """What the method itself learns is not in the model that averages its gradients."""
        if self.fabric.world_size > 1:
            for parameter in self.running.parameters():
                if parameter.grad is not None:
                    self._average(parameter.grad)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.data.copy_(
                value
            )  # unseen by autograd, whose graph of the whole batch has saved the buffer
