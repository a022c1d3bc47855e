"""Options that Meta-GF and DR-MGF have in common, and what each of them decides for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import torch

from offramp.checks import choice, number, switch
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.fusion import Fusion
from offramp.methods.loops.loop import BoundLoop, Loop, Progress
from offramp.methods.loops.routes import Routes
from offramp.methods.passes import K, Passes

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricOptimizer

    from offramp.methods.loops.stage import Stage

__all__ = ["Staged"]


@dataclass(frozen=True, kw_only=True)
class Staged(Loop):
    """K stages from a common start and a pass that fuses what they leave behind.

    Attributes:
        stage_fraction: Share of the training images that each stage sees in an epoch.
        fusion_fraction: Share that the fusion sees. Below 1, running statistics are averaged over the pass.
        optimizers: ``per-task`` or ``shared``: whether each task's stages have an optimiser of their own, or
            one goes from stage to stage as in the authors' code, so that their order matters.
        statistics: Where a stage's running statistics start: ``common``, or ``carried`` from the stage before
            as in the authors' code.
        merge: Take the mixture of the stages' running statistics instead of those of the fused net.
        deepest_first: The order of the stages.
        ramp: Multiply a stage's losses by its task's tau (:class:`~offramp.methods.objectives.ramp.Ramp`,
            epochs from 0), and each of the fusion's by its own.
        fusion_lr: Learning rate of what the fusion learns, by Adam.
        fusion_gamma: Its factor in the second half of the epochs.
        ema: Share of its old value that what the fusion learns goes back to after an epoch. DR-MGF: after
            epochs without routes only.

    Raises:
        UserError: A value out of its range.
    """

    own_backward: ClassVar[bool] = True
    stage_fraction: float = 1.0
    fusion_fraction: float = 1.0
    optimizers: str = "per-task"
    statistics: str = "common"
    merge: bool = False
    deepest_first: bool = False
    ramp: bool = False
    fusion_lr: float = 0.1
    fusion_gamma: float = 0.5
    ema: float = 0.9

    def __post_init__(self) -> None:
        for name in ("stage_fraction", "fusion_fraction"):
            number(self, name, "above 0 and up to 1", lambda share: 0 < share <= 1)
        choice(self, "optimizers", ("per-task", "shared"))
        choice(self, "statistics", ("common", "carried"))
        switch(self, "merge")
        switch(self, "deepest_first")
        switch(self, "ramp")
        number(self, "fusion_lr", "above 0 and at most 1e30", lambda lr: 0 < lr <= 1e30)
        number(self, "fusion_gamma", "above 0 and at most 1", lambda gamma: 0 < gamma <= 1)
        number(self, "ema", "from 0 to below 1", lambda share: 0 <= share < 1)

    @property
    def reads_epochs(self) -> tuple[str, ...]:  # noqa: D102
        gamma = f"fusion_gamma={self.fusion_gamma:g}"
        return ("ramp=True",) * self.ramp + (gamma,) * (self.fusion_gamma != 1)

    @property
    def passes(self) -> Passes:  # noqa: D102
        both = self.stage_fraction * K + self.fusion_fraction
        return Passes(both, both)

    def bind(self, context: LoopContext) -> BoundLoop:  # noqa: D102
        from offramp.methods.loops.stages import Stages  # which needs this class

        return Stages(context, self)

    @property
    def in_turn(self) -> bool:
        """Whether a stage needs what the stage before it has left behind."""
        return self.optimizers == "shared" or self.statistics == "carried"

    def fusion_rate(self, context: LoopContext, progress: Progress) -> float:
        """The fusion's learning rate."""
        return self.fusion_lr * (self.fusion_gamma if 2 * progress.epoch >= context.epochs else 1.0)

    # what each method decides for itself

    lags: ClassVar[bool] = False  # whether the fused net is that of the last step but one

    def learns(self, progress: Progress) -> bool:
        """Whether the fusion still learns."""
        return True

    def back(self, context: LoopContext, progress: Progress) -> float:
        """Share of the way that the fusion's variables go back after this epoch."""
        return self.ema

    def routes(self, context: LoopContext, owners: Mapping[str, tuple[int, ...]]) -> Routes | None:
        """The importance variables, if the method has any."""
        return None

    def routed(self, context: LoopContext, progress: Progress) -> bool:
        """Whether the stages of this epoch are routed."""
        return False

    def fusion(
        self, context: LoopContext, shared: Mapping[str, tuple[int, ...]], routes: Routes | None
    ) -> Fusion:
        """How the shared tensors are fused."""
        raise NotImplementedError

    def fusion_optimizer(self, context: LoopContext, fusion: Fusion) -> _FabricOptimizer | None:
        """What trains the fusion; None if nothing does."""
        if not fusion.variables:
            return None
        adam = torch.optim.Adam(fusion.variables.values(), lr=self.fusion_lr)
        return cast("_FabricOptimizer", context.fabric.setup_optimizers(adam))

    def factors(self, stage: Stage, task: int, progress: Progress) -> list[float]:
        """Factor of each loss in a task's stage, found at its beginning."""
        raise NotImplementedError
