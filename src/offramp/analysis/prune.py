"""What each output loses without the filters that another one needs most (DR-MGF, arXiv:2305.19844)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.analysis.importance import Importance

__all__ = ["Pruning", "own_filters", "pruned", "pruning_matrix"]


@dataclass(frozen=True)
class Pruning:
    """The pruning matrix of K outputs.

    Attributes:
        change: K rows of K numbers: M[k][j] = (acc_j without the filters of k - acc_j) / acc_j; 0 where
            acc_j is 0, so that there is nothing to lose.
        filters: How many filters each output has for its own, |S_k|.
        shared: How many shared filters have a score.
        accuracy: Of every output with all filters, as the measure gave it.
    """

    change: tuple[tuple[float, ...], ...]
    filters: tuple[int, ...]
    shared: int
    accuracy: tuple[float, ...]

    @property
    def diagonal(self) -> tuple[bool, ...]:
        """For every row, whether its own output loses more than any other."""
        return tuple(
            all(row[k] < other for j, other in enumerate(row) if j != k) for k, row in enumerate(self.change)
        )

    @property
    def as_published(self) -> tuple[tuple[float, ...], ...]:
        """What the published figure shows: the softmax of -100 M in each row.

        A drop by one hundredth more than another multiplies the share by e, so a row looks decided where
        accuracies differ by what the images at hand cannot tell apart.
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
    for name, found in importance.items():
        if k in found.owners:
            row = found.owners.index(k)
            others = torch.cat([found.scores[:row], found.scores[row + 1 :]])
            masks[name] = found.scores[row] > ratio * others.amax(0)
    return masks


@contextmanager
def pruned(net: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Set filters to zero for a while; whatever happens, the weights come back bit by bit."""
    parameters = dict(net.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in masks}
    with torch.no_grad():
        try:
            for name, mask in masks.items():
                p = parameters[name]
                p.masked_fill_(mask.to(p.device).reshape(_like(p, mask)), 0)
            yield
        finally:
            for name, value in kept.items():
                parameters[name].copy_(value)


def pruning_matrix(
    net: nn.Module,
    importance: Mapping[str, Importance],
    accuracy: Callable[[], Sequence[float]],
    *,
    ratio: float = 1.0,
) -> Pruning:
    """Take away each output's own filters in turn, and measure all outputs; nothing is trained again.

    Args:
        net: The net.
        importance: By parameter name.
        accuracy: Measures the net as it is, one number per output, higher is better.
        ratio: See :func:`own_filters`.
    """
    whole = tuple(accuracy())
    rows, counts = [], []
    for k in range(len(whole)):
        masks = own_filters(importance, k, ratio=ratio)
        counts.append(sum(int(mask.sum()) for mask in masks.values()))
        with pruned(net, masks):
            rows.append(
                tuple((now - was) / was if was else 0.0 for now, was in zip(accuracy(), whole, strict=True))
            )
    shared = sum(found.scores[0].numel() for found in importance.values())
    return Pruning(tuple(rows), tuple(counts), shared, whole)


def _like(parameter: Tensor, mask: Tensor) -> tuple[int, ...]:
    """The mask's shape with an axis of length 1 for each of the parameter's that it does not have."""
    return (*mask.shape, *[1] * (parameter.dim() - mask.dim())) if parameter.dim() else ()
