"""The steps of a period, and how far the training is at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.methods.loops import Phase, Progress
from offramp.recipes.recipe import Recipe
from offramp.training._schedule import learning_rate
from offramp.training._state import State

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Counts the steps of a period, phase by phase of each epoch.

    Attributes:
        phases: The phases of an epoch.
        epoch_steps: Steps that a run over all training images takes.
        recipe: Of the period.
        begins: Epochs of the training before the period.
    """

    phases: Sequence[Phase]
    epoch_steps: int
    recipe: Recipe
    begins: int = 0

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

    def done(self, state: State) -> int:
        """Steps of the period that are done."""
        return (state.epoch - self.begins) * self.total + self.before(state.phase) + state.step

    def progress(self, state: State) -> Progress:
        """How far the period is; every phase takes the learning rate through the same values."""
        whole, epoch = self.epoch_steps, state.epoch - self.begins
        done = epoch * whole + state.step * whole // self.steps(state.phase)
        return Progress(
            epoch=epoch,
            fraction=done / (self.recipe.epochs * whole),
            lr=learning_rate(self.recipe, done, whole),
        )

    def lr(self, state: State) -> float:
        """Learning rate of the most recent step."""
        if state.phase < len(self.phases):
            return self.progress(state).lr
        done = (state.epoch - self.begins + 1) * self.epoch_steps
        return learning_rate(self.recipe, done - 1, self.epoch_steps)

    def where(self, step: int) -> str:
        """Words for a step of the period, from 0."""
        epoch, step = divmod(step, self.total)
        phase = max(p for p in range(len(self.phases)) if self.before(p) <= step)
        name = self.phases[phase].name
        epoch += self.begins + 1
        return f"epoch {epoch}, {f'{name}, ' if name else ''}step {step - self.before(phase) + 1}"
