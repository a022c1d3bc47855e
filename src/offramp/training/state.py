"""Where a run stands between two steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from offramp.metrics import Accuracy
from offramp.training import processes, rng

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["State", "capture", "restore"]


@dataclass
class State:
    """Everything that moves during a run, but for weights, optimiser and random numbers.

    Attributes:
        loss_sum: Sum of this epoch's batch losses, exit by exit: float32 ``[K]``.
        loss_count: How many of them were finite: float32 ``[K]``.
        epoch: Whole epochs done.
        step: Steps done in this epoch.
        seconds: Time spent on this epoch's steps.
        rows: The lines of metrics.csv so far.
    """

    loss_sum: Tensor
    loss_count: Tensor
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, exits: int, device: torch.device) -> State:
        """Before the first step."""
        return cls(torch.zeros(exits, device=device), torch.zeros(exits, device=device))

    def add(self, losses: Tensor) -> None:
        """Count the K losses of one more step; a step that loss scaling skipped has none worth counting."""
        finite = losses.isfinite()
        self.loss_sum += torch.where(finite, losses, 0)
        self.loss_count += finite
        self.step += 1

    def row(self, *, lr: float, images: int, val: Accuracy | None, fabric: Fabric) -> dict[str, float]:
        """This epoch's line of metrics.csv, from its last learning rate, its images and its validation."""
        losses = processes.mean(self.loss_sum, fabric) / processes.mean(self.loss_count, fabric)
        return {
            "epoch": float(self.epoch + 1),
            "lr": lr,
            **{f"train_loss_{k}": loss for k, loss in enumerate(losses.tolist(), 1)},
            **{f"val_top1_{k}": top1 for k, (top1, _) in enumerate(val.exits if val else (), 1)},
            "seconds": self.seconds,
            "images_per_second": images / self.seconds,
        }

    def next_epoch(self, row: Mapping[str, float]) -> None:
        """Close an epoch with its line of metrics.csv."""
        self.rows.append(dict(row))
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.loss_sum.zero_()
        self.loss_count.zero_()


def capture(state: State, running: nn.Module, optimizer: Optimizer, fabric: Fabric) -> dict[str, Any]:
    """All that a checkpoint holds beside the weights, as plain values and tensors."""
    return vars(state) | {
        "loss_sum": processes.mean(state.loss_sum, fabric),
        "loss_count": processes.mean(state.loss_count, fabric),
        "method": running.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),
        "rng": rng.gather(fabric),
    }


def restore(values: dict[str, Any], running: nn.Module, optimizer: Optimizer, fabric: Fabric) -> State:
    """Put back what :func:`capture` gave.

    Raises:
        UserError: The run had another number of processes.
    """
    moved = {key: values[key].to(fabric.device) for key in ("loss_sum", "loss_count")}
    rng.restore(values["rng"], fabric)
    running.load_state_dict(values["method"])
    optimizer.load_state_dict(values["optimizer"])
    fabric.strategy.precision.load_state_dict(values["precision"])
    return State(**{f.name: values[f.name] for f in fields(State)} | moved)
