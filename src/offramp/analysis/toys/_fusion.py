"""DR-MGF on two parameters: a stage for each task from a common start, then a learned fusion of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from offramp.analysis.toys.problems import Problem, gradients

__all__ = ["PASSES", "Epoch", "fuse", "stages_and_fusion"]

PASSES = 3  # of an epoch for one of any other method: two stages and a fusion
SCALE_RATE = 0.1  # of Adam on the fusion scales, as in the authors' code


@dataclass(frozen=True)
class Epoch:
    """One round of stages and fusion.

    Attributes:
        ends: Where each stage ended, ``[start, task, 2]``.
        points: The fused points, ``[start, 2]``.
        shares: Of each task in each parameter, ``[start, task, 2]``; they add up to 1 over the tasks.
    """

    ends: Tensor
    points: Tensor
    shares: Tensor


def stages_and_fusion(
    problem: Problem, *, epochs: int, rate: float, beta: float = 0.4, length: int = 5
) -> Iterator[Epoch]:
    """DR-MGF (arXiv:2305.19844, Eq 9 to 11) where every filter is one number.

    Stage k steps on ``f_k + beta f_other`` from the common start; each stage's optimiser is its own and keeps
    its state. The fusion steps on the sum of the losses at ``w0 + sum_k a_k (w_k - w0) / sum_k a_k``, the
    scales ``a > 0`` (softplus) being all it learns; they start equal and persist.

    A kernel of one number has no direction but its sign, so there is nothing for routes to gate: the
    importance of both tasks is the same everywhere, and the scales alone decide who dominates.

    Args:
        problem: The problem.
        epochs: How many; each looks at the losses :data:`PASSES` ``length`` times.
        rate: Learning rate of the stages, Adam's or that of plain descent as for the problem.
        beta: Share of the other task's loss in a stage; 0.4 in the paper.
        length: Steps of a stage, and of the fusion: what an epoch over the data is to a network.
    """
    points = torch.tensor(problem.starts, dtype=torch.float64)
    tilt = torch.tensor([[1, beta], [beta, 1]], dtype=torch.float64)
    copies = torch.zeros(len(points), 2, 2, dtype=torch.float64, requires_grad=True)
    raw = torch.zeros_like(copies).requires_grad_()
    optimizer: torch.optim.Optimizer = (torch.optim.Adam if problem.adam else torch.optim.SGD)(
        [copies], lr=rate
    )
    scaler = torch.optim.Adam([raw], lr=SCALE_RATE)
    for _ in range(epochs):
        copies.data.copy_(points[:, None].expand_as(copies))
        for _ in range(length):
            _, rows = gradients(problem, copies)
            copies.grad = torch.einsum("kj,skjp->skp", tilt, rows)
            optimizer.step()
        ends = copies.detach().clone()
        for _ in range(length):
            (raw.grad,) = torch.autograd.grad(problem.losses(fuse(points, ends, softplus(raw))).sum(), raw)
            scaler.step()
        scales = softplus(raw).detach()
        points = fuse(points, ends, scales)
        yield Epoch(ends, points, scales / scales.sum(1, keepdim=True))


def fuse(start: Tensor, ends: Tensor, scales: Tensor) -> Tensor:
    """The start moved by the mean of the stages' displacements, parameter by parameter, weighted by scales.

    Args:
        start: ``[start, 2]``.
        ends: ``[start, task, 2]``.
        scales: Positive, ``[start, task, 2]``.
    """
    return start + (scales * (ends - start[:, None])).sum(1) / scales.sum(1)
