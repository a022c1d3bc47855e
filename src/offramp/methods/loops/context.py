"""The net, the method and the means to train that a loop is bound to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from offramp.data.batch import Batch
from offramp.distributed.collectives import mean, mean_all
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.methods.combiners.jacobian import average_gradients
from offramp.methods.loops.progress import Progress
from offramp.methods.objectives import Step
from offramp.nets import Net
from offramp.tasks import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer


__all__ = ["LoopContext"]


@dataclass(frozen=True)
class LoopContext:
    """The net, the method and the means to train that a loop is bound to.

    Attributes:
        model: The net's forward pass under precision and data parallelism, perhaps compiled. If the loop
            averages gradients itself, its keyword ``tensors`` takes the place of parameters.
        net: The net itself.
        bound: The method at work on the net.
        fabric: Runs the backward passes, clips, and knows the other processes.
        optimizer: The recipe's optimiser over groups of parameters, as Fabric wraps it.
        batches: A few training batches, a pure function of a number: (number, how many) -> batches.
        outer: The batches on which a bilevel loop looks, without end, from a number on; this process's share
            of each.
        tasks: The task of each of the net's outputs, as the recipe sets it.
        epochs: How many there will be.
        seed: Seed of the run.
        compiled: Whether the model is compiled; the features between its stages are out of reach then.
        clip: Largest norm of the whole gradient; 0 leaves it alone.
        accumulate: How many micro-batches a batch is cut into; ``"auto"``: as many as memory asks for.
    """

    model: Callable[..., Any]
    net: Net
    bound: BoundMethod
    fabric: Fabric
    optimizer: Callable[[Iterable[Any]], _FabricOptimizer]
    batches: Callable[[int, int], Iterator[Batch]]
    tasks: Sequence[Task]
    epochs: int
    seed: int = 0
    compiled: bool = False
    clip: float = 0.0
    accumulate: int | Literal["auto"] = 1
    outer: Callable[[int], Iterator[Batch]] = lambda number: iter(())

    def forward(
        self,
        batch: Batch,
        progress: Progress,
        *,
        whole: Batch | None = None,
        more: bool = False,
        together: bool = True,
        **keywords: Any,
    ) -> Step:
        """Run the net on a batch.

        Args:
            batch: The samples.
            progress: How far the training is.
            whole: What the batch is a micro-batch of; None: it is all.
            more: Whether other micro-batches follow.
            together: Whether the processes share the batch, rather than have one each.
            keywords: Further keywords of the model.
        """
        processes = self.fabric.world_size if together else 1
        return self.bound.step(
            batch,
            self.model,
            self.tasks,
            reach={"features"} if self.compiled else {"features", "trunk"},
            how=keywords,
            progress=progress.fraction,
            epoch=progress.epoch,
            epochs=self.epochs,
            whole=None if whole is None else whole.targets,
            share=1.0 if whole is None else len(batch) / len(whole),
            more=more,
            average=mean if processes > 1 else None,
            processes=processes,
        )

    def plain(self) -> LoopContext:
        """The context with the net itself for a model: neither compiled nor shared out over processes.

        A step without the other processes is taken within :func:`apart`.
        """

        def model(*inputs: Any, **how: Any) -> Any:
            with self.fabric.autocast():
                return self.net(*inputs, **how)

        return dataclasses.replace(self, model=model, compiled=False)

    def averaging(self, *, now: bool) -> AbstractContextManager[Any]:
        """Context of forward and backward that says whether Fabric averages over the processes now."""
        if now or not isinstance(self.model, nn.Module):
            return nullcontext()
        return self.fabric.no_backward_sync(self.model)  # type: ignore[arg-type]

    def average_gradients(self) -> None:
        """Average the net's gradients over the processes, unless Fabric or the combiner does so."""
        if "losses" in self.bound.needs and not isinstance(self.model, nn.Module):
            average_gradients(self.net, self.backward())

    def backward(self) -> Backward:
        """Backward pass for combiners, at the present scale of the loss."""
        average = (lambda tensor: mean_all([tensor])) if self.fabric.world_size > 1 else None
        return Backward(self.fabric.backward, self.scale(), average)

    def scale(self) -> float:
        """Factor that a backward pass multiplies the loss by."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        return 1.0 if scaler is None else float(scaler.scale(torch.ones((), device=self.fabric.device)))

    def update(self, optimizer: _FabricOptimizer, *modules: nn.Module) -> None:
        """Clip the gradient of the modules, unless the optimiser does so, and take a step of it."""
        if self.clip and not self.bound.brings_optimizer:
            # under loss scaling an overflow is normal: the scaler sees it too and skips the step
            self.fabric.clip_gradients(
                nn.ModuleList(modules), optimizer, max_norm=self.clip, error_if_nonfinite=False
            )
        optimizer.step()
