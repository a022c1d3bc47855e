"""The state of a run between two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from offramp.distributed.collectives import gather, mean
from offramp.errors import shown
from offramp.methods.loops import BoundLoop, Losses
from offramp.restoring import load_precision
from offramp.runs.checkpoint import folder_name
from offramp.runs.epochs import rule_of
from offramp.runs.formats import renamed_state
from offramp.runs.shape import AMOUNT
from offramp.stored_values import check_like, check_whole
from offramp.training import _rng

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["State", "capture", "check_step", "restore"]


@dataclass
class State:
    """Everything that moves during a run, but for weights, the loop's own state and random numbers.

    Attributes:
        loss_sum: Sum of the batch losses in this phase of the epoch, output by output: float32 ``[K]``.
        loss_count: How many of them were finite: float32 ``[K]``.
        epoch: Whole epochs done.
        phase: Phases of this epoch done.
        step: Steps done in this phase.
        seconds: Time spent on this epoch's steps.
        phase_began: How many of these seconds went before this phase.
        rows: The lines of metrics.csv so far.
        phase_rows: The lines of parts.csv so far.
    """

    loss_sum: Tensor
    loss_count: Tensor
    epoch: int = 0
    phase: int = 0
    step: int = 0
    seconds: float = 0.0
    phase_began: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    phase_rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def start(cls, outputs: int, device: torch.device) -> State:
        """Before the first step."""
        return cls(torch.zeros(outputs, device=device), torch.zeros(outputs, device=device))

    def begin_phase(self) -> None:
        """Before a phase's first step."""
        self.loss_sum.zero_()
        self.loss_count.zero_()
        self.phase_began = self.seconds

    def add(self, losses: Losses) -> None:
        """Count one more step's losses; those that are not finite do not count."""
        finite = losses.values.isfinite()
        self.loss_sum[losses.index] += torch.where(finite, losses.values, 0)
        self.loss_count[losses.index] += finite
        self.step += 1

    def next_phase(self, name: str, outputs: Sequence[str]) -> list[dict[str, Any]]:
        """Close a phase; its lines of parts.csv, one for each phase that a process was at.

        Args:
            name: Name of the phase.
            outputs: Names of the outputs in the columns.
        """
        own_phase = (name, self.loss_sum / self.loss_count, self.seconds - self.phase_began)
        phases = gather(own_phase)
        rows = []
        for phase in dict.fromkeys(name for name, _, _ in phases):
            losses, seconds = zip(*((losses, s) for name, losses, s in phases if name == phase), strict=True)
            means = torch.stack(losses).mean(0).tolist()  # nan: did not run
            named = {f"train_loss_{k}": loss for k, loss in zip(outputs, means, strict=True)}
            rows.append({"epoch": self.epoch + 1, "part": phase, **named, "seconds": max(seconds)})
        self.phase_rows += rows
        self.phase, self.step = self.phase + 1, 0
        return rows

    def row(
        self, outputs: Sequence[str], *, lr: float, images: int, passes: float, val: Mapping[str, float]
    ) -> dict[str, float]:
        """The line of metrics.csv for the epoch that is done.

        Args:
            outputs: Names of the outputs in the columns.
            lr: Its last learning rate.
            images: How many it trained on, all phases together.
            passes: What the training has cost so far, in epochs of joint training.
            val: Its validation, as columns.
        """
        losses = mean(self.loss_sum) / mean(self.loss_count)
        return {
            "epoch": float(self.epoch + 1),
            "lr": lr,
            **{f"train_loss_{k}": loss for k, loss in zip(outputs, losses.tolist(), strict=True)},
            **val,
            "passes": passes,
            "seconds": self.seconds,
            "images_per_second": images / self.seconds,
        }

    def next_epoch(self, row: Mapping[str, float]) -> None:
        """Close an epoch with its line of metrics.csv."""
        self.rows.append(dict(row))
        self.epoch, self.phase, self.step, self.seconds = self.epoch + 1, 0, 0, 0.0


def capture(state: State, loop: BoundLoop, fabric: Fabric) -> dict[str, Any]:
    """What a checkpoint holds beside the weights, as plain values and tensors."""
    mine = loop.state()
    plain = {name: value for name, value in vars(state).items() if not isinstance(value, Tensor)}
    return plain | {
        "losses": gather((state.loss_sum, state.loss_count)),
        "loop": gather(mine) if loop.apart else [mine],
        "precision": fabric.strategy.precision.state_dict(),
        "rng": _rng.gather(fabric),
    }


def restore(values: dict[str, Any], start: State, loop: BoundLoop, fabric: Fabric) -> State:
    """Put back what :func:`capture` gave.

    Args:
        values: The content of a checkpoint.
        start: The state before the first step.
        loop: The loop.
        fabric: The processes.

    Raises:
        UserError: The run had another number of processes.
        ValueError: Something is not like what this training has, or not finite.
    """
    _rng.restore(values["rng"], fabric)
    losses = values["losses"][fabric.global_rank]
    check_like(losses, (start.loss_sum.cpu(), start.loss_count.cpu()), "losses")
    loss_sum, loss_count = (tensor.to(fabric.device) for tensor in losses)
    load_precision(fabric.strategy.precision, values["precision"])
    loop.load(values["loop"][fabric.global_rank if loop.apart else 0])
    values = renamed_state(values)
    _check_rows(values["rows"], values.get("phase_rows", []))
    plain = {f.name: values[f.name] for f in fields(State) if f.name in values}
    return State(loss_sum=loss_sum, loss_count=loss_count, **plain)


def check_step(state: State, phases: Sequence[int], epochs: int, name: str) -> None:
    """Check that a restored state is at a step of this training.

    Args:
        state: The state.
        phases: How many steps each phase of an epoch has.
        epochs: How many epochs the training has.
        name: Of the checkpoint's folder, which tells whole epochs and steps.

    Raises:
        ValueError: It is not.
    """
    check_whole(state.epoch, "epoch", 0, epochs)
    check_whole(state.phase, "phase", 0, len(phases) - 1)
    check_whole(state.step, "step", 0, phases[state.phase])
    step = sum(phases[: state.phase]) + state.step
    if name != (place := folder_name(state.epoch, step)):
        raise ValueError(f"it is the state of {place}")
    for key in ("seconds", "phase_began"):
        if not AMOUNT.allows(value := getattr(state, key)):
            raise ValueError(f"{key} is {shown(value)}, must be {AMOUNT.words}")
    if len(state.rows) != state.epoch:
        raise ValueError(f"it has {len(state.rows)} lines of metrics.csv, of {state.epoch} epochs")


def _check_rows(rows: Any, phase_rows: Any) -> None:
    """Check lines of metrics.csv and parts.csv.

    Raises:
        ValueError: They are none.
    """
    for name, lines in (("rows", rows), ("phase_rows", phase_rows)):
        if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
            raise ValueError(f"{name} are {shown(lines)}, must be lines of a table")
        for line in lines:
            if not line.keys() <= lines[-1].keys():
                raise ValueError(f"{name} lose columns from line to line")
            for key, value in line.items():
                if not (rule := rule_of(key)).allows(value):
                    raise ValueError(f"{key} in {name} is {shown(value)}, must be {rule.words}")
    if [line.get("epoch") for line in rows] != [*range(1, len(rows) + 1)]:
        raise ValueError("rows are not of one epoch after the other")
