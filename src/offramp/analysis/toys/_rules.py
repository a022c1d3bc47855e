"""Rules that make one direction of two gradients, for several starts at a time: combiners and plain ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from offramp.analysis.toys.problems import Problem
from offramp.methods import method
from offramp.methods.combiners import Backward, Combiner
from offramp.methods.combiners.aggregate import BoundAggregator
from offramp.methods.combiners.jacobian import LeanBlock
from offramp.methods.combiners.row_combiner import BoundRowCombiner

__all__ = ["COMBINERS", "CombinerRule", "Points", "Rule", "rules"]

COMBINERS = ("pcgrad", "cagrad", "nash-mtl", "mgda", "imtl", "graddrop", "aligned-mtl", "upgrad")
CAGRAD_C = {"a": 0.5, "b": 0.4}  # A's is that of the authors' code for it; 0.4 is the library's

Rule = Callable[[Tensor], Tensor]  # gradients [start, loss, parameter] -> directions [start, parameter]


class Points(nn.Module):
    """A point for each start; two losses of its own reach each of them.

    Args:
        points: ``[n, 2]``.
    """

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = nn.ParameterList(point.clone() for point in points)

    def owners(self) -> dict[str, frozenset[int]]:
        """Start s has the losses 2 s and 2 s + 1: so combiners take each start for a group of its own."""
        return {name: frozenset((2 * s, 2 * s + 1)) for s, (name, _) in enumerate(self.named_parameters())}


class CombinerRule:
    """A combiner of the library applied to given rows: its weights, draws, memory and failures.

    It does what ``combiner(losses, step, backward)`` does to :class:`Points`, without a backward pass for
    each loss of each start.

    Args:
        combiner: One that works on the rows or their Gramian.
        starts: Number of starts.
        seed: Seed of its own draws.
    """

    def __init__(self, combiner: Combiner, starts: int, seed: int = 0) -> None:
        bound = combiner.bind(Points(torch.zeros(starts, 2)), seed)
        assert isinstance(bound, (BoundAggregator, BoundRowCombiner))
        self.bound = bound
        self.owners = [(2 * s, 2 * s + 1) for s in range(starts)]
        self.outputs = range(2 * starts)

    def __call__(self, rows: Tensor) -> Tensor:
        """Gradients ``[start, loss, parameter]`` -> directions ``[start, parameter]``."""
        bound = self.bound
        if isinstance(bound, BoundAggregator):
            directions = [
                bound.aggregate(owners, owners, pair) for owners, pair in zip(self.owners, rows, strict=True)
            ]
        else:
            weights = [
                bound.weigh(_block(owners, gramian), self.outputs)
                for owners, gramian in zip(self.owners, rows @ rows.mT, strict=True)
            ]
            directions = [w @ pair for w, pair in zip(weights, rows, strict=True)]
        bound.steps += 1
        return torch.stack(directions)


def rules(problem: Problem, seed: int = 0) -> dict[str, Rule]:
    """Every rule to step on a problem: the sum, each task alone, the combiners; on B dominance.

    **dominance**: each parameter follows the gradient of the task that prefers it, and no other: the first
    parameter that of the first task, the second that of the second. It knows who prefers what.

    Args:
        problem: The problem.
        seed: Seed of what is drawn.
    """
    by_name: dict[str, Rule] = {
        "joint": lambda rows: rows.sum(-2),
        "task 1": lambda rows: rows[:, 0],
        "task 2": lambda rows: rows[:, 1],
    }
    for name in COMBINERS:
        options = {"c": CAGRAD_C[problem.name]} if name == "cagrad" else {}
        by_name[name] = CombinerRule(method(name, options).combiner, len(problem.starts), seed)
    if problem.name == "b":
        by_name["dominance"] = lambda rows: rows.diagonal(dim1=-2, dim2=-1)
    return by_name


def _block(owners: tuple[int, ...], gramian: Tensor) -> LeanBlock:
    return LeanBlock(owners, owners, [], gramian, [], Backward(), keep_graph=False)
