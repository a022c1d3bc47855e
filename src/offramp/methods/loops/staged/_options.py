"""Options that Meta-GF and DR-MGF have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from offramp.checks import choice, number, switch
from offramp.methods.loops.loop import Loop
from offramp.methods.loops.progress import Progress
from offramp.methods.passes import Linear, Passes

__all__ = ["StagedLoop"]


@dataclass(frozen=True, kw_only=True)
class StagedLoop(Loop):
    """One phase per output from a common start, then a phase that fuses what they leave behind.

    The papers call the phases of the outputs *stages*, and so do the names of options and the log.

    Attributes:
        lags: Whether the fused net is that of the last step but one.
        stage_fraction: Fraction of the training images that the phase of each output sees; ``"2/K"``, or
            another number over K: all phases together see the images so many times.
        fusion_fraction: Fraction that the fusion sees. Below 1, running statistics are averaged over the
            phase.
        optimizers: ``per-task`` or ``shared``: whether each output has an optimiser of its own, or one goes
            from phase to phase as in the authors' code, so that their order matters.
        start: Where the weights of an output's phase start: ``common``, the net that the last fusion gave; or
            ``carried`` from the phase before, so that the outputs' copies lie on one trajectory, at whose end
            the weights of a single output are taken.
        statistics: Where the running statistics of an output's phase start: ``common``, or ``carried`` from
            the phase before as in the authors' code.
        merge: Take the mixture of the outputs' running statistics instead of those of the fused net.
        deepest_first: Train the last output first.
        ramp: Multiply the losses of an output's phase by its tau
            (:class:`~offramp.methods.objectives.ramp.Ramp`, epochs from 0), and each of the fusion's losses
            by its own.
        fusion_lr: Learning rate of what the fusion learns, by Adam.
        fusion_gamma: Its factor in the second half of the epochs.
        ema: Fraction of its old value that what the fusion learns goes back to after an epoch. DR-MGF: after
            epochs without routes only.

    Raises:
        UserError: A value out of its range.
    """

    own_backward: ClassVar[bool] = True
    staged: ClassVar[bool] = True
    lags: ClassVar[bool] = False
    stage_fraction: float | str = 1.0
    fusion_fraction: float = 1.0
    optimizers: str = "per-task"
    start: str = "common"
    statistics: str = "common"
    merge: bool = False
    deepest_first: bool = False
    ramp: bool = False
    fusion_lr: float = 0.1
    fusion_gamma: float = 0.5
    ema: float = 0.9

    def __post_init__(self) -> None:
        if not self._runs:
            bounds = "above 0 and up to 1, or one over K, as '2/K'"
            number(self, "stage_fraction", bounds, lambda fraction: 0 < fraction <= 1)
        number(self, "fusion_fraction", "above 0 and up to 1", lambda fraction: 0 < fraction <= 1)
        choice(self, "optimizers", ("per-task", "shared"))
        choice(self, "start", ("common", "carried"))
        choice(self, "statistics", ("common", "carried"))
        switch(self, "merge")
        switch(self, "deepest_first")
        switch(self, "ramp")
        number(self, "fusion_lr", "above 0 and at most 1e30", lambda lr: 0 < lr <= 1e30)
        number(self, "fusion_gamma", "above 0 and at most 1", lambda gamma: 0 < gamma <= 1)
        number(self, "ema", "from 0 to below 1", lambda fraction: 0 <= fraction < 1)

    @property
    def reads_epochs(self) -> tuple[str, ...]:
        gamma = f"fusion_gamma={self.fusion_gamma:g}"
        return ("ramp=True",) * self.ramp + (gamma,) * (self.fusion_gamma != 1)

    @property
    def passes(self) -> Passes:
        both = self.stage_runs + self.fusion_fraction
        return Passes(both, both)

    @property
    def stage_runs(self) -> Linear:
        """How often the phases of all outputs together see the training images."""
        runs = self._runs
        return Linear(constant=runs) if runs else Linear(slope=self.stage_fraction)  # type: ignore[arg-type]

    def stage_share(self, outputs: int) -> float:
        """Fraction of the training images that the phase of each of so many outputs sees."""
        runs = self._runs
        return runs / outputs if runs else self.stage_fraction  # type: ignore[return-value]

    @property
    def _runs(self) -> float:
        """The number over K that is given as the fraction of a phase; 0: none is."""
        given = re.fullmatch(r"(\d+(?:\.\d+)?)\s*/\s*K", str(self.stage_fraction))
        return float(given[1]) if given else 0.0

    @property
    def in_turn(self) -> bool:
        """Whether an output's phase needs what the phase before it has left behind."""
        return self.optimizers == "shared" or "carried" in (self.start, self.statistics)

    def gated_in(self, epoch: int, epochs: int) -> bool:
        """Whether the outputs' phases of an epoch train gated weights."""
        return False

    def learns_in(self, epoch: int) -> bool:
        """Whether the fusion of an epoch learns."""
        return True

    def fusion_lr_at(self, progress: Progress, epochs: int) -> float:
        """Learning rate of the fusion."""
        return self.fusion_lr * (self.fusion_gamma if 2 * progress.epoch >= epochs else 1.0)

    def ema_after(self, epoch: int, epochs: int) -> float:
        """Fraction of the old value that what the fusion learns goes back to after an epoch."""
        return self.ema
