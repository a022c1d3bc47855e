"""The phases of an epoch, counted in steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.methods.loops import Phase

__all__ = ["EpochPlan"]


@dataclass(frozen=True)
class EpochPlan:
    """Counts the steps of a run, phase by phase.

    Attributes:
        phases: The phases of an epoch.
        epoch_steps: Steps that a run over all training images takes.
    """

    phases: Sequence[Phase]
    epoch_steps: int

    def steps(self, phase: int) -> int:
        """How many steps a phase has; at least one."""
        return max(1, round(self.phases[phase].share * self.epoch_steps))

    @property
    def total(self) -> int:
        """How many steps an epoch has, all phases together."""
        return self.before(len(self.phases))

    def before(self, phase: int) -> int:
        """How many steps of an epoch come before a phase."""
        return sum(map(self.steps, range(phase)))

    def where(self, step: int) -> str:
        """Words for a step, counted from 0 over the whole run."""
        epoch, step = divmod(step, self.total)
        phase = max(p for p in range(len(self.phases)) if self.before(p) <= step)
        name = self.phases[phase].name
        return f"epoch {epoch + 1}, {f'{name}, ' if name else ''}step {step - self.before(phase) + 1}"
