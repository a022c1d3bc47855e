"""Loss of each output without the filters that another one needs most (DR-MGF, arXiv:2305.19844)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from offramp.analysis.importance import Importance
from offramp.tasks.delta_m import relative_gain

__all__ = ["FilterCounts", "Pruning", "own_counts", "own_filters", "pruned", "pruning_matrix"]


@dataclass(frozen=True)
class FilterCounts:
    """How many filters each output has for its own, among those with the same owners (as in one stage).

    Attributes:
        owners: The outputs that share them, 0-based.
        filters: Number of filters that they share.
        own: Number that each of the K outputs has for its own.
        chance: Number that it would have if its gradients were random; None where that is not known.
    """

    owners: tuple[int, ...]
    filters: int
    own: tuple[int, ...]
    chance: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Pruning:
    """The pruning matrix of K outputs.

    Attributes:
        change: K rows of K numbers: M[k][j] = (m_j without the filters of k - m_j) / m_j, of the primary
            metric m, with the sign turned where a lower one is better; 0 where m_j is 0, so that no part
            is lost.
        filters: Number of filters that each output has for its own, |S_k|.
        shared: Number of shared filters that have a score.
        accuracy: Primary metric of every output with all filters, as the measure gave it.
        stages: Numbers of filters for each set of owners.
    """

    change: tuple[tuple[float, ...], ...]
    filters: tuple[int, ...]
    shared: int
    accuracy: tuple[float, ...]
    stages: tuple[FilterCounts, ...] = ()

    @property
    def chance(self) -> tuple[float, ...] | None:
        """Number of filters that each output would have by chance; None where that is not known."""
        known = [stage.chance for stage in self.stages if stage.chance is not None]
        return tuple(map(sum, zip(*known, strict=True))) if known else None

    @property
    def diagonal(self) -> tuple[bool, ...]:
        """For every row, whether its own output loses more than any other."""
        return tuple(
            all(row[k] < other for j, other in enumerate(row) if j != k) for k, row in enumerate(self.change)
        )

    @property
    def as_published(self) -> tuple[tuple[float, ...], ...]:
        """The matrix as the published figure shows it: the softmax of -100 M in each row.

        A drop by one hundredth more than another multiplies the share by e, so a row looks decided where
        metrics differ by less than these images can resolve.
        """
        shares = torch.softmax(-100 * torch.tensor(self.change, dtype=torch.float64), dim=1)
        return tuple(map(tuple, shares.tolist()))


def own_filters(importance: Mapping[str, Importance], k: int, *, ratio: float = 1.0) -> dict[str, Tensor]:
    """S_k: the shared filters that output k needs more than any other owner does.

    Args:
        importance: By parameter name.
        k: The output, 0-based.
        ratio: How many times the second highest score k's must exceed: 1 in the paper, 1.1 in the published
            code.

    Returns:
        For every parameter that k owns a mask of its filters, bool ``[m]`` or ``[m, n]``.
    """
    masks = {}
    for name, parameter in importance.items():
        if k in parameter.owners:
            row = parameter.owners.index(k)
            others = torch.cat([parameter.scores[:row], parameter.scores[row + 1 :]])
            masks[name] = parameter.scores[row] > ratio * others.amax(0)
    return masks


def own_counts(
    importance: Mapping[str, Importance], outputs: int, *, ratio: float = 1.0
) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Number of filters that each output has for its own, for each set of owners.

    Args:
        importance: By parameter name.
        outputs: K.
        ratio: See :func:`own_filters`.

    Returns:
        Owners -> K numbers.
    """
    counts = {parameter.owners: [0] * outputs for parameter in importance.values()}
    for k in range(outputs):
        for name, mask in own_filters(importance, k, ratio=ratio).items():
            counts[importance[name].owners][k] += int(mask.sum())
    return {owners: tuple(own) for owners, own in counts.items()}


@contextmanager
def pruned(net: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Set filters to zero for a while; whatever happens, the weights come back bit by bit."""
    parameters = dict(net.named_parameters())
    values = {name: parameters[name].detach().clone() for name in masks}
    with torch.no_grad():
        try:
            for name, mask in masks.items():
                p = parameters[name]
                p.masked_fill_(mask.to(p.device).reshape(_like(p, mask)), 0)
            yield
        finally:
            for name, value in values.items():
                parameters[name].copy_(value)


def pruning_matrix(
    net: nn.Module,
    importance: Mapping[str, Importance],
    measure: Callable[[], Sequence[float]],
    *,
    better: Sequence[str] | None = None,
    ratio: float = 1.0,
    nulls: Sequence[Mapping[str, Importance]] = (),
) -> Pruning:
    """Take away each output's own filters in turn, and measure all outputs; nothing is trained again.

    Args:
        net: The net.
        importance: By parameter name.
        measure: Measures the net as it is, one number per output.
        better: Whether a ``"higher"`` or a ``"lower"`` number is better, for each output; by default higher.
        ratio: See :func:`own_filters`.
        nulls: Importance from random gradients, some draws of it, for what chance gives.
    """
    unpruned = tuple(measure())
    better = better or ["higher"] * len(unpruned)
    rows, counts = [], []
    for k in range(len(unpruned)):
        masks = own_filters(importance, k, ratio=ratio)
        counts.append(sum(int(mask.sum()) for mask in masks.values()))
        with pruned(net, masks):
            rows.append(
                tuple(
                    relative_gain(value, before, direction) if before else 0.0
                    for value, before, direction in zip(measure(), unpruned, better, strict=True)
                )
            )
    sizes: dict[tuple[int, ...], int] = {}
    for parameter in importance.values():
        sizes[parameter.owners] = sizes.get(parameter.owners, 0) + parameter.scores[0].numel()
    own = own_counts(importance, len(unpruned), ratio=ratio)
    draws = [own_counts(null, len(unpruned), ratio=ratio) for null in nulls]
    stages = tuple(
        FilterCounts(owners, size, own[owners], _means([draw[owners] for draw in draws]) if draws else None)
        for owners, size in sizes.items()
    )
    return Pruning(tuple(rows), tuple(counts), sum(sizes.values()), unpruned, stages)


def _means(draws: Sequence[Sequence[int]]) -> tuple[float, ...]:
    return tuple(fmean(column) for column in zip(*draws, strict=True))


def _like(parameter: Tensor, mask: Tensor) -> tuple[int, ...]:
    """The mask's shape with an axis of length 1 for each of the parameter's that it does not have."""
    return (*mask.shape, *[1] * (parameter.dim() - mask.dim())) if parameter.dim() else ()
