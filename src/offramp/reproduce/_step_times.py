"""Where a training step's time goes, by the protocol of Deep Feature Surgery: phase by phase."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from offramp.data import Batch
from offramp.methods import Method
from offramp.methods.bound import BoundMethod
from offramp.nets import Net

__all__ = ["PHASES", "StepTimer", "endless", "take_turns"]

PHASES = ("forward", "backward", "data", "other")


class StepTimer:
    """Training steps of one method, by SGD, timed phase by phase.

    Args:
        method: The method.
        net: Its net, on its device.
        batches: Of the training, on that device; without end.
        dtype: Of the forward pass, by autocast unless it is float32.
        compiled: Whether the net is compiled.

    Attributes:
        bound: The method at work on the net.
        seconds: Seconds of each phase, of all steps so far: ``data`` (wait and copy), ``forward``,
            ``backward``, and ``other`` (loss, zero_grad, optimiser step).
    """

    def __init__(
        self,
        method: Method,
        net: Net,
        batches: Iterator[Batch],
        *,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        self.bound = BoundMethod(method, method.prepare(net))
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._model: Any = torch.compile(net) if compiled else net
        self._tasks, self._batches, self._dtype = [*net.outputs.values()], batches, dtype
        self._device = next(net.parameters()).device.type
        learned = [*net.parameters(), *self.bound.parameters()]
        self._optimizer = torch.optim.SGD(learned, lr=0.1, momentum=0.9, weight_decay=5e-4)

    def step(self) -> None:
        """Train on the next batch."""
        start = self._now()
        batch = next(self._batches)
        loaded = self._now()
        with torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype != torch.float32):
            passed = self.bound.step(batch, self._model, self._tasks, reach={"features"})
        forward = self._now()
        loss = torch.stack(self.bound.losses_of(passed)).sum()
        self._optimizer.zero_grad(set_to_none=True)
        ready = self._now()
        loss.backward()
        backward = self._now()
        self._optimizer.step()
        end = self._now()
        self.seconds["data"].append(loaded - start)
        self.seconds["forward"].append(forward - loaded)
        self.seconds["backward"].append(backward - ready)
        self.seconds["other"].append(ready - forward + end - backward)

    def times(self, batch: int) -> dict[str, float]:
        """Mean seconds of each phase, images per second, the median of a whole step, and the number of steps.

        Args:
            batch: Number of images of a step.
        """
        means = {phase: statistics.fmean(self.seconds[phase]) for phase in PHASES}
        totals = [sum(step) for step in zip(*(self.seconds[phase] for phase in PHASES), strict=True)]
        return {
            **means,
            "fps": batch / sum(means.values()),
            "median_step": statistics.median(totals),
            "iterations": len(totals),
        }

    def _now(self) -> float:
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def take_turns(timers: Sequence[StepTimer], iterations: int, turn: int = 5) -> None:
    """Let methods take turns, so that a drift of the machine's speed falls on all of them alike.

    Args:
        timers: One for each method.
        iterations: Steps of each, of which the first is discarded.
        turn: Steps that one takes before the next.
    """
    for timer in timers:
        timer.step()
        timer.seconds.clear()
    for done in range(1, iterations, turn):
        for timer in timers:
            for _ in range(min(turn, iterations - done)):
                timer.step()


def endless(
    train: Any,
    batch: int,
    transform: Any,
    device: torch.device,
    *,
    side: int | None = None,
    channels_last: bool = False,
) -> Iterator[Batch]:
    """Shuffled and augmented training batches, epoch after epoch.

    Args:
        train: The training split of a set of images.
        batch: Number of images.
        transform: How they are augmented.
        device: Where they go.
        side: Of the images, which are resized to it if they have another.
        channels_last: Their memory format.
    """
    epoch = 0
    while True:
        for each in train.batches(
            batch, transform=transform, device=device, epoch=epoch, shuffle=True, drop_last=True
        ):
            images = each.inputs
            if side not in (None, images.shape[-1]):
                images = F.interpolate(images, size=side)
            if channels_last:
                images = images.to(memory_format=torch.channels_last)
            yield replace(each, inputs=images)
        epoch += 1
