"""DR-MGF: stages whose kernels are gated by what each task needs, fused by that need and learned weights.

Sun et al., "Learning Task-preferred Inference Routes for Gradient De-conflict in Multi-output DNNs",
arXiv:2305.19844.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from offramp.checks import choice, number, numbers, switch
from offramp.errors import UserError
from offramp.methods.loops.auxiliary import equal_norms, landscape_rates
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.fusion import Fusion, is_bias, kernels_of
from offramp.methods.loops.loop import Progress
from offramp.methods.loops.routes import INITS, LATERAL, SIGNS, Routes
from offramp.methods.loops.stage import Stage
from offramp.methods.loops.staged import Staged
from offramp.methods.passes import K, Passes

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["DRMGF"]

EQUAL = "equal-norms"


@dataclass(frozen=True, kw_only=True)
class DRMGF(Staged):
    """Stage k descends f_k + beta sum over i != k of f_i + lambda ||nu_k||^2, through gated unit kernels.

    Attributes:
        gate: ``own``: stage k is gated by nu_k alone. ``mixed``: by ten parts of it and one of every other
            owner's, so that every stage trains all nu.
        lateral: How a filter's inputs compete: ``paper`` (Eq 7) or ``nyu`` (hardly: the NYUv2 code).
        init: First values of nu: ``kaiming``, equal for all tasks; ``kaiming-apart``; or ``norm``, the norms
            of the net's kernels.
        sign: How nu and the fusion's scales are made positive: ``abs`` or ``softplus``.
        pointwise: Also route 1x1 convolutions, by a nu that has a sign.
        auxiliary: The auxiliary rate beta.
        landscape: Find rates from 0 to `auxiliary` at the beginning of each stage, after the first epoch.
        stage_weights: Factors of the tasks' losses in the stages only: one number each, or ``equal-norms``.
        penalty: lambda.
        nu_decay: Weight decay of nu.
        routed_share: Share of the epochs, from the first, whose stages are routed. Later ones train raw
            weights, and nu stays as it is and serves the fusion.
        learn: What the fusion learns: ``scales`` of the importance nu; ``routes``, nu itself; or ``nothing``,
            for the arithmetic mean (DR-avgF).
        affine: How norm layers' weights and biases are fused: by learned ``scales`` or by their ``mean``.
        official_quirks: Do as the authors' code for NYUv2 does in two places that look like oversights.
        fusion_lr: Learning rate of the fusion's scales, by Adam, which start at 0.001: a step is a tenth of a
            scale. The published rate, 0.1, makes every scale about 0.1 at the first step, whichever way it
            should go.

    Raises:
        UserError: A value out of its range.
    """

    gate: str = "own"
    lateral: str = "paper"
    init: str = "kaiming"
    sign: str = "abs"
    pointwise: bool = False
    auxiliary: float = 0.4
    landscape: bool = False
    stage_weights: Sequence[float] | str | None = None
    penalty: float = 1e-4
    nu_decay: float = 0.0
    routed_share: float = 0.5
    learn: str = "scales"
    affine: str = "scales"
    official_quirks: bool = False
    fusion_lr: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, words in (
            ("gate", ("own", "mixed")),
            ("lateral", tuple(LATERAL)),
            ("init", INITS),
            ("sign", tuple(SIGNS)),
            ("learn", ("scales", "routes", "nothing")),
            ("affine", ("scales", "mean")),
        ):
            choice(self, name, words)
        for name in ("pointwise", "landscape", "official_quirks"):
            switch(self, name)
        for name in ("auxiliary", "penalty", "nu_decay"):
            number(self, name, "from 0 to 1e30", lambda value: 0 <= value <= 1e30)
        number(self, "routed_share", "from 0 to 1", lambda share: 0 <= share <= 1)
        if self.stage_weights not in (None, EQUAL):
            bounds = f"a number above 0 per task, or {EQUAL}"
            found = numbers(self, "stage_weights", bounds, lambda factors: min(factors) > 0)
            object.__setattr__(self, "stage_weights", found)

    @property
    def in_turn(self) -> bool:  # noqa: D102
        return super().in_turn or self.gate == "mixed"

    @property
    def reads_epochs(self) -> tuple[str, ...]:  # noqa: D102
        share = f"routed_share={self.routed_share:g}"
        return super().reads_epochs + (share,) * (0 < self.routed_share < 1)

    @property
    def reads_data(self) -> tuple[str, ...]:  # noqa: D102
        return ("landscape=True: the losses decide which exits a stage runs",) * self.landscape

    @property
    def passes(self) -> Passes:  # noqa: D102
        if self.learn != "nothing":
            return super().passes
        stages = self.stage_fraction * K
        return Passes(stages, stages) + Passes(self.fusion_fraction, 0)

    def routed(self, context: LoopContext, progress: Progress) -> bool:  # noqa: D102
        return progress.epoch < self.routed_share * context.epochs

    def back(self, context: LoopContext, progress: Progress) -> float:  # noqa: D102
        return 0.0 if self.routed(context, progress) else self.ema

    def routes(self, context: LoopContext, owners: Mapping[str, tuple[int, ...]]) -> Routes:
        """The importance variables.

        Raises:
            UserError: Not one stage weight per exit.
        """
        weights, exits = self.stage_weights, len(context.net.outputs)
        if isinstance(weights, tuple) and len(weights) != exits:
            raise UserError(f"stage_weights are {len(weights)}, exits {exits}; give one weight per exit")
        return Routes(
            context.net,
            owners,
            lateral=self.lateral,
            mixed=self.gate == "mixed",
            init=self.init,
            sign=self.sign,
            pointwise=self.pointwise,
            penalty=self.penalty,
            decay=self.nu_decay,
            seed=context.seed,
            quirks=self.official_quirks,
        )

    def factors(self, stage: Stage, task: int, progress: Progress) -> list[float]:  # noqa: D102
        tasks = len(stage.context.net.outputs)
        scales: Sequence[float] = [1.0] * tasks
        if self.stage_weights == EQUAL:
            scales = equal_norms(stage, progress)
        elif self.stage_weights is not None:
            scales = self.stage_weights  # type: ignore[assignment]
        rates = [self.auxiliary] * tasks
        if self.landscape and progress.epoch > 0:
            rates = landscape_rates(stage, task, progress, cap=self.auxiliary, weights=scales)
        rates[task] = 1.0
        tau = stage.taus(progress)[task]
        return [tau * rate * scale for rate, scale in zip(rates, scales, strict=True)]

    def fusion(  # noqa: D102
        self, context: LoopContext, shared: Mapping[str, tuple[int, ...]], routes: Routes | None
    ) -> Fusion:
        units: dict[str, torch.Size] = {}
        kernels = kernels_of(context.net)
        for name, parameter in context.net.named_parameters():
            equal = is_bias(context.net, name) or (self.affine == "mean" and parameter.dim() == 1)
            learned = self.learn == "routes" and routes is not None and name in routes.owners
            if name in shared and not equal and not learned and self.learn != "nothing":
                units[name] = parameter.shape[:2] if name in kernels else parameter.shape
        first = 1e-3 if self.learn == "scales" else 1.0
        return Fusion(
            shared,
            units,
            positive=SIGNS[self.sign][0],
            start=lambda task: first,
            routes=None if self.learn == "nothing" else routes,
            learn_routes=self.learn == "routes",
            like=next(context.net.parameters()),
        )

    def fusion_optimizer(self, context: LoopContext, fusion: Fusion) -> _FabricOptimizer | None:  # noqa: D102
        if self.learn == "nothing":
            return None
        if self.learn == "scales":
            return super().fusion_optimizer(context, fusion)
        learnt = list(fusion.learnt().values())
        return context.optimizer([{"params": learnt, "weight_decay": self.nu_decay}]) if learnt else None

    def fusion_rate(self, context: LoopContext, progress: Progress) -> float:  # noqa: D102
        return progress.lr if self.learn == "routes" else super().fusion_rate(context, progress)
