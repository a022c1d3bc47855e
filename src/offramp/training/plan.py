"""The parts of an epoch, counted in steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.methods.loops import Phase

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Which step of a run is which.

    Attributes:
        parts: The parts of an epoch.
        epoch_steps: Steps that a run over all training images takes.
    """

    parts: Sequence[Phase]
    epoch_steps: int

    def steps(self, part: int) -> int:
        """How many steps a part has; at least one."""
        return max(1, round(self.parts[part].share * self.epoch_steps))

    @property
    def total(self) -> int:
        """How many steps an epoch has, all parts together."""
        return self.before(len(self.parts))

    def before(self, part: int) -> int:
        """How many steps of an epoch come before a part."""
        return sum(map(self.steps, range(part)))

    def where(self, step: int) -> str:
        """Words for a step, counted from 0 over the whole run."""
        epoch, step = divmod(step, self.total)
        part = max(p for p in range(len(self.parts)) if self.before(p) <= step)
        name = self.parts[part].name
        return f"epoch {epoch + 1}, {f'{name}, ' if name else ''}step {step - self.before(part) + 1}"
