"""Families of gradient rows that solvers have to cope with, and exact answers by trying everything."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def rows(family: str, m: int, seed: int = 0, n: int = 20) -> Tensor:
    """``[m, n]`` float64."""
    draw = torch.Generator().manual_seed(1000 * m + seed)
    J = torch.randn(m, n, generator=draw, dtype=torch.float64)
    sizes = 10 ** (3 * torch.rand(m, 1, generator=draw, dtype=torch.float64))
    if family == "alike":  # exits agree, as they mostly do
        return J + 1.5
    if family == "alike, of very different norms":
        return (J + 1.5) * sizes
    if family == "of very different norms":
        return J * sizes
    if family == "conflicting":  # the mean is a tenth of what it would be
        return J - 0.9 * J.mean(0)
    if family == "dependent":  # in a half space of a plane, so that a direction descends for all
        plane = torch.linalg.qr(J[:2].T).Q.T
        angles = 2.5 * torch.rand(m, generator=draw, dtype=torch.float64)
        return sizes * torch.stack([angles.cos(), angles.sin()], 1) @ plane
    return J


FAMILIES = [
    "random",
    "alike",
    "alike, of very different norms",
    "of very different norms",
    "conflicting",
    "dependent",
]


def supports(m: int) -> list[list[int]]:
    """All sets of rows but the empty one."""
    return [list(s) for size in range(1, m + 1) for s in itertools.combinations(range(m), size)]


def shortest_by_trying(J: Tensor) -> Tensor:
    """The shortest vector of the hull: of all supports with positive weights the best."""
    best = None
    for s in supports(len(J)):
        G, one = J[s] @ J[s].T, torch.ones(len(s), dtype=J.dtype)
        w = torch.linalg.lstsq(G, one).solution if len(s) <= J.shape[1] else one
        if w.sum() <= 0 or w.min() < 0:
            continue
        x = (w / w.sum()) @ J[s]
        best = x if best is None or x.norm() < best.norm() else best
    return best


def projection_by_trying(J: Tensor, target: Tensor) -> Tensor:
    """The projection of a vector onto the dual cone: of all faces with a point of the cone the nearest."""
    found = [target] if (J @ target).min() >= 0 else []
    for s in supports(len(J)):
        basis = torch.linalg.qr(J[s].T).Q
        d = target - basis @ (basis.T @ target)
        if (J @ d / J.norm(dim=1)).min() >= -1e-9 * target.norm():
            found.append(d)
    return min(found, key=lambda d: (d - target).norm())
