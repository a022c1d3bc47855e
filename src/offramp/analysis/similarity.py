"""Similarity of the outputs' routes, and of unrelated ones (DR-MGF, arXiv:2305.19844, Fig 13)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.errors import UserError
from offramp.methods.loops import Route

__all__ = ["Likeness", "common_routes", "likeness", "null_similarities", "similarity"]


@dataclass(frozen=True)
class Likeness:
    """Similarity of the outputs' routes.

    Attributes:
        parameters: Those that all outputs own.
        raw: Cosines of |nu|, ``[K, K]``.
        centred: Cosines of |nu| less its mean, ``[K, K]``; 0 by chance, 1 from an equal start.
        chance: Cosines of |nu| of routes that have nothing to do with each other, by how they are drawn.
    """

    parameters: tuple[str, ...]
    raw: Tensor
    centred: Tensor
    chance: Mapping[str, float]


def likeness(common: Mapping[str, Route]) -> Likeness:
    """Compare the routes that all outputs own, as :func:`common_routes` finds them."""
    shapes = [(route.importance.shape[1], route.importance.shape[2]) for route in common.values()]
    return Likeness(
        tuple(common), similarity(common), similarity(common, centred=True), null_similarities(shapes)
    )


def common_routes(routes: Mapping[str, Route], outputs: int, *, skip_first: bool = False) -> dict[str, Route]:
    """The routes of those parameters that every output owns, in order.

    Args:
        routes: By parameter name.
        outputs: How many outputs there are (K).
        skip_first: Leave out the first of them, as the published code does.

    Raises:
        UserError: There are none.
    """
    all_outputs = tuple(range(outputs))
    common = [(name, route) for name, route in routes.items() if tuple(route.owners) == all_outputs]
    if len(common) <= skip_first:
        raise UserError(
            f"no routed parameter{' but the first' if common else ''} is owned by all {outputs} outputs, "
            "so their routes cannot be compared; route a net whose outputs share a convolution"
        )
    return dict(common[skip_first:])


def similarity(common: Mapping[str, Route], *, centred: bool = False) -> Tensor:
    """Cosine of every two outputs' importance |nu|, all parameters joined to one vector.

    Args:
        common: The routes that all outputs own, as :func:`common_routes` finds them.
        centred: Subtract from |nu| its mean over each parameter first. Positive vectors are alike by their
            mean alone; without it, independent ones come to 0.

    Returns:
        float64 ``[K, K]``; 0 where a vector is zero.
    """
    tensors = [route.importance.double().abs().flatten(1) for route in common.values()]
    return _cosines([t - t.mean(1, keepdim=True) if centred else t for t in tensors])


def null_similarities(
    shapes: Sequence[tuple[int, int]], *, side: int = 3, draws: int = 32, seed: int = 0
) -> dict[str, float]:
    """Similarity of random routes of these shapes, and of routes with equal initial values.

    Args:
        shapes: ``(m, n)`` of each parameter.
        side: Of the kernels.
        draws: Independent pairs to average over.
        seed: Of the draws.

    Returns:
        ``half-normal``: |N(0, 1)| (0.637 in the limit of many entries); ``uniform``: U(0, 1) (0.750);
        ``kernel norms``: norms of Gaussian kernels, as learned routes often start (0.947 for 3 x 3); ``equal
        start``: 1, where all outputs' routes begin alike and nothing has been learned yet.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    kinds: dict[str, Callable[[int, int], Tensor]] = {
        "half-normal": lambda m, n: normal(2, m * n).abs(),
        "uniform": lambda m, n: torch.rand(2, m * n, generator=generator, dtype=torch.float64),
        "kernel norms": lambda m, n: normal(2, m * n, side * side).norm(dim=-1),
    }
    means = {
        name: math.fsum(_cosines([make(m, n) for m, n in shapes])[0, 1].item() for _ in range(draws)) / draws
        for name, make in kinds.items()
    }
    return means | {"equal start": 1.0}


def _cosines(tensors: Sequence[Tensor]) -> Tensor:
    joined = torch.cat(list(tensors), dim=1)
    unit = torch.nn.functional.normalize(joined, dim=1)
    return unit @ unit.T
