"""Two problems with two losses and two parameters, on which one can see what a method does.

A is the landscape of Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021,
arXiv:2110.14048 (Fig 1), which Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, use with
the first loss scaled. B is a convex problem with the structure that Fig 3 of DR-MGF (arXiv:2305.19844)
describes; its functions are not published, so these are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from offramp.checks import choice, number

__all__ = ["CoupledProblem", "Landscape", "Problem", "gradients"]

LOWER = 5e-6  # of what A takes the logarithm of
Point = tuple[float, float]


class Problem(Protocol):
    """Two losses of two parameters.

    Attributes:
        name: ``a`` or ``b``.
        starts: Points at which descents begin.
        adam: Whether the published descent is Adam's, else plain gradient descent.
    """

    name: ClassVar[str]
    adam: ClassVar[bool]

    @property
    def starts(self) -> tuple[Point, ...]: ...  # noqa: D102

    def losses(self, points: Tensor) -> Tensor:
        """Points ``[..., 2]`` -> their two losses ``[..., 2]``."""

    def plane(self, points: Tensor) -> Tensor:
        """Points ``[..., 2]`` -> where a picture shows them, ``[..., 2]``."""

    def pareto(self) -> Tensor:
        """Points ``[n, 2]``, close together, on which no loss can fall without another's rise."""


def gradients(problem: Problem, points: Tensor) -> tuple[Tensor, Tensor]:
    """The losses at some points and the gradient of each.

    Args:
        problem: The problem.
        points: ``[..., 2]``.

    Returns:
        Losses ``[..., 2]`` and gradients ``[..., loss, parameter]``.
    """
    points = points.detach().requires_grad_()
    losses = problem.losses(points)
    first, second = losses.unbind(-1)
    (first_gradient,) = torch.autograd.grad(first.sum(), points, retain_graph=True)
    (second_gradient,) = torch.autograd.grad(second.sum(), points)
    return losses.detach(), torch.stack([first_gradient, second_gradient], dim=-2)


@dataclass(frozen=True)
class Landscape:
    """A: above x2 = 0 two narrow valleys, one for each loss, that cross; below it two bowls side by side.

    ``L_k = h_k c1 + q_k c2`` with ``h`` the logarithm of the distance to a valley's bottom, ``q`` quadratic,
    ``c1 = max(tanh(x2 / 2), 0)`` and ``c2 = max(tanh(-x2 / 2), 0)``.

    Attributes:
        published: ``cagrad`` for the starts and losses of CAGrad's code; ``nash-mtl`` for the five starts of
            Nash-MTL's, where the first loss is a tenth of that.

    Raises:
        UserError: No such set of starts.
    """

    name: ClassVar[str] = "a"
    adam: ClassVar[bool] = True
    published: str = "cagrad"

    def __post_init__(self) -> None:
        choice(self, "published", ("cagrad", "nash-mtl"))

    @property
    def scale(self) -> float:
        """Factor of the first loss."""
        return 0.1 if self.published == "nash-mtl" else 1.0

    @property
    def starts(self) -> tuple[Point, ...]:  # noqa: D102
        if self.published == "nash-mtl":
            return (-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0)
        return (-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0)

    def losses(self, points: Tensor) -> Tensor:  # noqa: D102
        x1, x2 = points.unbind(-1)
        bend = torch.tanh(-x2)
        h1 = torch.clamp((0.5 * (-x1 - 7) - bend).abs(), LOWER).log() + 6
        h2 = torch.clamp((0.5 * (-x1 + 3) + bend + 2).abs(), LOWER).log() + 6
        q1 = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
        q2 = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
        c1, c2 = torch.clamp(torch.tanh(0.5 * x2), 0), torch.clamp(torch.tanh(-0.5 * x2), 0)
        return torch.stack([self.scale * (h1 * c1 + q1 * c2), h2 * c1 + q2 * c2], dim=-1)

    def plane(self, points: Tensor) -> Tensor:  # noqa: D102
        return points

    def pareto(self) -> Tensor:
        """The minima of ``u q1 c2 + (1 - u) q2 c2``, u from 0 to 1; the first loss's scale leaves them alone.

        There x1 is 7 (2 u - 1), and x2, found by bisection, goes from -8.43 at the ends to -8.3552 in the
        middle; the published pictures draw the straight segment at -8.3552.
        """
        x1 = torch.linspace(-7, 7, 1001, dtype=torch.float64)
        level = (49 - x1**2) / 10 - 20  # of u q1 + (1 - u) q2 at x2 = -8
        low, high = torch.full_like(x1, -9.0), torch.full_like(x1, -8.0)
        for _ in range(60):
            x2 = (low + high) / 2
            c2 = torch.tanh(-0.5 * x2)
            slope = -0.5 * (1 - c2**2) * (level + 0.01 * (x2 + 8) ** 2) + 0.02 * (x2 + 8) * c2
            low, high = torch.where(slope < 0, x2, low), torch.where(slope < 0, high, x2)
        return torch.stack([x1, (low + high) / 2], dim=-1)


@dataclass(frozen=True)
class CoupledProblem:
    """B: ``f1 = (theta1 - 1)^2`` and ``f2 = (theta2 + 1)^2``, where each theta is made of both parameters.

    ``theta = A w`` with ``A = [[1, delta], [delta, 1]]``. At the start w = 0 the two gradients oppose each
    other in both parameters, though one point is best for both losses: ``w = (1, -1) / (1 - delta)``. The sum
    is strictly convex, so plain descent does get there; what can be seen is how long it takes.

    Attributes:
        delta: How much a loss hears of the parameter that the other prefers; from 0 up to below 1.

    Raises:
        UserError: A value out of its range.
    """

    name: ClassVar[str] = "b"
    adam: ClassVar[bool] = False
    starts: ClassVar[tuple[Point, ...]] = ((0.0, 0.0),)
    delta: float = 0.95

    def __post_init__(self) -> None:
        number(self, "delta", "from 0 to below 1", lambda delta: 0 <= delta < 1)

    def losses(self, points: Tensor) -> Tensor:  # noqa: D102
        best = torch.tensor([1.0, -1.0], dtype=points.dtype)
        return (self.plane(points) - best) ** 2

    def plane(self, points: Tensor) -> Tensor:
        """``[..., 2]`` w -> ``[..., 2]`` theta."""
        return points + self.delta * points.flip(-1)

    def pareto(self) -> Tensor:
        """The point ``[1, 2]`` that is best for both losses."""
        best = 1 / (1 - self.delta)
        return torch.tensor([[best, -best]], dtype=torch.float64)
