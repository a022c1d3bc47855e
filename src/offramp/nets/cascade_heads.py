"""Heads of Zero Time Waste: each reads the logits of the one before, and answers with an ensemble of all.

Wojcik et al., "Zero Time Waste in pre-trained early exit neural networks", Neural Networks 168, 2023
(Wolczyk et al., NeurIPS 2021, arXiv:2106.05409), and its public code.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from offramp.nets.exits import HandedOn
from offramp.nets.head_parts import HeadParts, ReplacingHead

__all__ = ["ENSEMBLES", "CascadeHead"]

ENSEMBLES = ("geometric", "additive")


class CascadeHead(ReplacingHead):
    """A classifier that reads its feature beside LayerNorm(z_{m-1}), and an ensemble of classifiers 1 to m.

    z_{m-1} are the logits of the classifier before, without gradient, so that its own loss alone trains it.

    Args:
        parts: The head in whose place it stands; its body is taken over, and trained.
        number: Which classifier it is (m), from 1.
        ensemble: ``"geometric"`` or ``"additive"``.

    Attributes:
        ensembling: Whether it answers with the ensemble, and not with its classifier.
    """

    ensembling: bool = True

    def __init__(self, parts: HeadParts, number: int, ensemble: str) -> None:
        super().__init__(parts)
        classes = parts.classes
        self.norm = nn.LayerNorm(classes, **parts.like) if number > 1 else None
        self.linear = nn.Linear(self.width + (number > 1) * classes, classes, **parts.like)
        self.ensemble = _Ensemble(number, parts, additive=ensemble == "additive")

    @property
    def classifier(self) -> tuple[nn.Module, ...]:
        """All of it but the ensemble."""
        return (self.body, self.linear, *([] if self.norm is None else [self.norm]))

    def forward(self, feature: object, before: Tensor | None) -> HandedOn:
        """Logits ``[N, classes]``; handed on are those of all classifiers so far, ``[N, m, classes]``."""
        x = self.body(feature)
        if self.norm is not None:
            assert before is not None
            before = before.detach()
            x = torch.cat([x, self.norm(before[:, -1])], 1)
        own = self.linear(x)
        every = own.unsqueeze(1) if before is None else torch.cat([before, own.unsqueeze(1)], 1)
        return HandedOn(self.ensemble(every) if self.ensembling else own, every)


class _Ensemble(nn.Module):
    """Logits of a weighted ensemble of m classifiers, whose probabilities are p_1 to p_m.

    Geometric, their logarithms: (1/m) sum_j e^{w_j} ln p_j + b. Additive: ln(sum_j e^{w_j} p_j + e^b), whose
    softmax is sum_j e^{w_j} p_j + e^b, normalised; b = 0 adds 1 for each class.

    Args:
        number: m.
        parts: Those of a head with as many classes.
        additive: Which.
    """

    optimizer_settings: ClassVar[dict[str, float]] = {"weight_decay": 0.0}

    def __init__(self, number: int, parts: HeadParts, *, additive: bool) -> None:
        super().__init__()
        self.weights = nn.Parameter(0.01 * torch.randn(number, 1, **parts.like))
        self.bias = nn.Parameter(torch.zeros(parts.classes, **parts.like))
        self.additive = additive

    def forward(self, logits: Tensor) -> Tensor:
        """``[N, m, classes]`` to ``[N, classes]``."""
        logs = logits.log_softmax(-1)
        if not self.additive:
            return (self.weights.exp() * logs).mean(1) + self.bias
        terms = logs + self.weights
        return torch.logaddexp(terms.logsumexp(1), self.bias)

    def extra_repr(self) -> str:
        return f"{'additive' if self.additive else 'geometric'}, {len(self.weights)} classifiers"
