"""What a loop works with: a net, a method, and the means to train the one by the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from offramp.combiners import Backward
from offramp.loops.loop import Moment
from offramp.modes import buffers_kept
from offramp.nets import Net
from offramp.objectives import Step

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

    from offramp.running import Running

__all__ = ["Bench"]


@dataclass(frozen=True)
class Bench:
    """What a loop works with.

    Attributes:
        model: The net's forward pass under precision and data parallelism, perhaps compiled. If the loop
            averages gradients itself, its keyword ``tensors`` takes the place of parameters.
        net: The net itself.
        running: The method's objective and combiner at work.
        fabric: Runs the backward passes, clips, and knows the other processes.
        optimizer: The recipe's optimiser over groups of parameters, as Fabric wraps it.
        batches: A few training batches, a pure function of a number: (number, how many) -> images, labels.
        epochs: How many there will be.
        seed: The run's.
        compiled: Whether the model is compiled; the features between its stages are out of reach then.
        label_smoothing: Mass of the target spread over all classes.
        clip: Largest norm of the whole gradient; 0 leaves it alone.
        accumulate: How many micro-batches a batch is cut into.
    """

    model: Callable[..., Any]
    net: Net
    running: Running
    fabric: Fabric
    optimizer: Callable[[Iterable[Any]], _FabricOptimizer]
    batches: Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]
    epochs: int
    seed: int = 0
    compiled: bool = False
    label_smoothing: float = 0.0
    clip: float = 0.0
    accumulate: int = 1

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        moment: Moment,
        *,
        share: float = 1.0,
        more: bool = False,
        **how: Any,
    ) -> Step:
        """One forward pass.

        Args:
            images: ``[N, C, H, W]``.
            targets: Class indices ``[N]``.
            moment: When this is.
            share: Share of the batch that these images are.
            more: Whether others of the batch follow.
            how: Further keywords of the model.
        """
        features = trunk = None
        needs = self.running.needs
        if needs & ({"features"} if self.compiled else {"features", "trunk"}):
            outputs, features, trunk = self.model(images, keep=True, **how)
        else:
            outputs = self.model(images, **how)

        def part(share: float) -> tuple[list[Tensor], Step]:
            count = max(2, round(share * len(targets)))  # batch norm cannot do with one value per channel
            with buffers_kept(self.net), buffers_kept(self.running):
                first = tree_map(lambda tensor: tensor[:count], images)  # inputs may be named
                found = self.forward(first, targets[:count], moment, **how)
                return self.running.balanced(self.running.losses(found), found), found

        return Step(
            self.net,
            outputs,
            targets,
            progress=moment.progress,
            epoch=moment.epoch,
            epochs=self.epochs,
            label_smoothing=self.label_smoothing,
            features=features,
            trunk=None if self.compiled else trunk,
            part=part,
            share=share,
            more=more,
        )

    def averaging(self, *, now: bool) -> AbstractContextManager[Any]:
        """Around forward and backward: whether Fabric's backward passes average over the processes."""
        if now or "losses" not in self.running.needs:  # rows are averaged by the combiner
            return nullcontext()
        return self.fabric.no_backward_sync(self.model)  # type: ignore[arg-type]

    def backward(self) -> Backward:
        """How gradients are got, at the present scale of the loss."""
        average = self.average if self.fabric.world_size > 1 else None
        return Backward(self.fabric.backward, self.scale(), average)

    def scale(self) -> float:
        """What a backward pass multiplies the loss by."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        return 1.0 if scaler is None else float(scaler.scale(torch.ones((), device=self.fabric.device)))

    def average(self, tensor: Tensor) -> None:
        """Make a Tensor its mean over the processes, in place."""
        if self.fabric.world_size > 1:
            tensor.copy_(cast("Tensor", self.fabric.all_reduce(tensor, reduce_op="mean")))

    def average_all(self, tensors: Iterable[Tensor | None]) -> None:
        """The same for many Tensors at once, which saves as many waits for the other processes."""
        found = [tensor for tensor in tensors if tensor is not None]
        if self.fabric.world_size > 1 and found:
            flat = torch.cat([tensor.flatten() for tensor in found])
            self.average(flat)
            for tensor, part in zip(found, flat.split([tensor.numel() for tensor in found]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def update(self, optimizer: _FabricOptimizer, *modules: nn.Module) -> None:
        """Clip the gradient of the modules, and take a step."""
        if self.clip:
            # under loss scaling an overflow is normal: the scaler sees it too and skips the step
            self.fabric.clip_gradients(
                nn.ModuleList(modules), optimizer, max_norm=self.clip, error_if_nonfinite=False
            )
        optimizer.step()
