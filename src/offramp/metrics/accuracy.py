"""Top-1 and top-5 of every exit, their average, and the ensemble of all exits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.modes import evaluating

__all__ = ["Accuracy", "accuracy", "count_correct", "evaluate"]


@dataclass(frozen=True)
class Accuracy:
    """In percent.

    Attributes:
        exits: (top-1, top-5) of every exit, shallow to deep; with fewer than five classes, top-5 is over all.
        average_top1: Mean of the exits' top-1 (Deep Feature Surgery, Table 3).
        ensemble_top1: Top-1 of the mean of all K exits' logits (Deep Feature Surgery, Table 1).
    """

    exits: tuple[tuple[float, float], ...]
    average_top1: float
    ensemble_top1: float


def evaluate(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    add_up: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Accuracy:
    """The accuracy of every exit over all batches, in evaluation mode; the net's mode is restored.

    Args:
        net: Maps images ``[N, ...]`` to K logits ``[N, classes]``.
        batches: Pairs of images and class indices ``[N]``, on the net's device.
        add_up: Sums the counts of :func:`count_correct` over processes that share the batches.

    Raises:
        ValueError: No batches.
    """
    return accuracy(add_up(count_correct(net, batches)))


@torch.no_grad()
def count_correct(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """What :func:`accuracy` divides, as counts that add up over batches and over processes.

    Returns:
        int64 ``[2K + 2]``: top-1 hits of K exits, top-5 hits of K exits, hits of the ensemble, images.
    """
    total = None
    with evaluating(net):
        for images, targets in batches:
            logits = torch.stack([exit_logits.float() for exit_logits in net(images)])  # [K, N, classes]
            best = logits.topk(min(5, logits.shape[-1]), dim=-1).indices
            hits = best == targets[:, None]
            ensemble = logits.mean(0).argmax(-1) == targets
            images_seen = torch.tensor([len(targets)], device=targets.device)
            counts = torch.cat([hits[..., 0].sum(1), hits.any(-1).sum(1), ensemble.sum()[None], images_seen])
            total = counts if total is None else total + counts
    if total is None:
        raise ValueError("there is nothing to evaluate on: no batches")
    return total


def accuracy(counts: Tensor) -> Accuracy:
    """The counts of :func:`count_correct` as percentages."""
    *hits, images = counts.tolist()
    *exits, ensemble = [100 * hit / images for hit in hits]
    top1, top5 = exits[: len(exits) // 2], exits[len(exits) // 2 :]
    return Accuracy(tuple(zip(top1, top5, strict=True)), sum(top1) / len(top1), ensemble)
