"""Trajectories of every method on a toy problem, all starts and all methods step by step together."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from offramp.analysis.toys._fusion import PASSES, Epoch, stages_and_fusion
from offramp.analysis.toys._rules import rules
from offramp.analysis.toys.problems import Point, Problem, gradients
from offramp.errors import UserError

__all__ = ["MILESTONES", "STEPS", "Descent", "descend"]

MILESTONES = (30, 100, 300)  # always recorded
STEPS = {"a": 6000, "b": 3000}
RATE = {"a": 0.003, "b": 0.05}
KEPT = 400  # states of a trajectory, about


@dataclass(frozen=True)
class Descent:
    """The trajectories of every method on a problem, as :func:`descend` returns them.

    Attributes:
        problem: The problem.
        rate: Learning rate.
        methods: Names, ``dr-mgf`` the last.
        steps: The T steps whose state is recorded, from 0 to the last.
        points: ``[T, method, start, 2]``, float64. Between two fusions DR-MGF's is where it was; the steps of
            a stage count for it, and :attr:`passes` says how many passes they took.
        losses: ``[T, method, start, 2]``.
        epochs: DR-MGF's, in full.
        notes: What a combiner had to say, e.g. that there are no weights on the Pareto set.
    """

    problem: Problem
    rate: float
    methods: tuple[str, ...]
    steps: tuple[int, ...]
    points: Tensor
    losses: Tensor
    epochs: tuple[Epoch, ...]
    notes: tuple[str, ...]

    @property
    def starts(self) -> tuple[Point, ...]:
        """Points at which the descents of each method begin."""
        return self.problem.starts

    @property
    def passes(self) -> tuple[int, ...]:
        """Number of passes over both losses in a step of each method: one, for DR-MGF three."""
        return tuple(PASSES if name == "dr-mgf" else 1 for name in self.methods)

    def distances(self) -> Tensor:
        """Distance of the last points from the Pareto set, in parameters, ``[method, start]``."""
        last = self.points[-1].flatten(0, 1)
        return torch.cdist(last, self.problem.pareto()).amin(1).view(len(self.methods), -1)

    def summary(self) -> list[dict[str, Any]]:
        """Method by method and start by start: the losses at the milestones and at the end."""
        distances = self.distances().tolist()
        marks = [
            (t, step) for t, step in enumerate(self.steps) if step in MILESTONES or t + 1 == len(self.steps)
        ]
        return [
            {
                "method": name,
                "passes": self.passes[m] * self.steps[-1],
                "start": list(start),
                "point": self.points[-1, m, s].tolist(),
                "losses": self.losses[-1, m, s].tolist(),
                "sum": {str(step): float(self.losses[t, m, s].sum()) for t, step in marks},
                "distance": distances[m][s],
            }
            for m, name in enumerate(self.methods)
            for s, start in enumerate(self.starts)
        ]

    def settings(self) -> dict[str, Any]:
        """Settings of the problem and of the descent, as plain values."""
        return {
            "problem": self.problem.name,
            **vars(self.problem),
            "optimizer": "adam" if self.problem.adam else "gradient descent",
            "rate": self.rate,
            "steps": self.steps[-1],
        }

    def to_dict(self) -> dict[str, Any]:
        """The settings, trajectories and notes as plain values."""
        paths = zip(
            self.points.permute(1, 2, 0, 3).flatten(0, 1).tolist(),
            self.losses.permute(1, 2, 0, 3).flatten(0, 1).tolist(),
            strict=True,
        )
        return {
            **self.settings(),
            "recorded": list(self.steps),
            "trajectories": [
                {**row, "way": {"points": points, "losses": losses}}
                for row, (points, losses) in zip(self.summary(), paths, strict=True)
            ],
            "notes": list(self.notes),
        }


def descend(
    problem: Problem,
    *,
    steps: int | None = None,
    rate: float | None = None,
    beta: float = 0.4,
    length: int = 5,
    seed: int = 0,
) -> Descent:
    """Step on a problem by every method from every start.

    All methods take as many steps. A step looks at both losses once, except that DR-MGF takes one in each of
    its stages and one in the fusion for it; its epochs are those that fit.

    Args:
        problem: The problem.
        steps: By default :data:`STEPS`.
        rate: Of Adam on A, of plain gradient descent on B; by default :data:`RATE`. The publications run
            35,000 or 100,000 steps at 0.001 on A. Up to 0.003 the sum stalls in the valleys as it does there;
            at 0.01 it jumps out of them.
        beta: DR-MGF's share of the other task in a stage.
        length: Steps of DR-MGF's stages, and of its fusion: an epoch of its.
        seed: Of what GradDrop and PCGrad draw.

    Raises:
        UserError: A number out of its range.
    """
    steps = STEPS[problem.name] if steps is None else steps
    rate = RATE[problem.name] if rate is None else rate
    _check(steps, rate, beta, length)
    grid = _grid(steps)
    methods = rules(problem, seed)
    starts = torch.tensor(problem.starts, dtype=torch.float64)
    points = starts.repeat(len(methods), 1, 1).requires_grad_()
    optimizer: torch.optim.Optimizer = (torch.optim.Adam if problem.adam else torch.optim.SGD)(
        [points], lr=rate
    )
    recorded = [points.detach().clone()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(1, steps + 1):
            _, rows = gradients(problem, points)
            points.grad = torch.stack([rule(pair) for rule, pair in zip(methods.values(), rows, strict=True)])
            optimizer.step()
            if step in grid:
                recorded.append(points.detach().clone())
    fusion_epochs = stages_and_fusion(problem, epochs=steps // length, rate=rate, beta=beta, length=length)
    epochs = tuple(fusion_epochs)
    fused = [starts, *(epoch.points for epoch in epochs)]
    fused_path = torch.stack([fused[step // length] for step in grid])
    path = torch.cat([torch.stack(recorded), fused_path[:, None]], dim=1)
    if not bool(path.isfinite().all()):
        raise UserError(f"the descent diverged at a learning rate of {rate:g}; take a smaller rate")
    notes = tuple(str(warning.message) for warning in caught)
    if not epochs:
        notes += (f"dr-mgf has not moved: its stages take {length} steps",)
    return Descent(
        problem, rate, (*methods, "dr-mgf"), tuple(grid), path, problem.losses(path), epochs, notes
    )


def _grid(steps: int) -> dict[int, None]:
    """0, the milestones, the last step and, between, about as many as are kept; dense at the beginning."""
    even = {round(n * steps / KEPT) for n in range(KEPT + 1)}
    early = {round(math.exp(n / 100 * math.log(steps))) for n in range(101)}
    return dict.fromkeys(sorted({0, *even, *early, *(m for m in MILESTONES if m < steps)}))


def _check(steps: int, rate: float, beta: float, length: int) -> None:
    if steps < 1:
        raise UserError(f"steps is {steps}, must be 1 or more")
    if length < 1:
        raise UserError(f"length is {length}, must be 1 step or more")
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"rate is {rate}, must be a number above 0")
    if not 0 <= beta <= 1:
        raise UserError(f"beta is {beta}, must lie from 0 to 1")
