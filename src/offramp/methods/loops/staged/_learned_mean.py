"""Mean of the K states of a net under learned positive weights (DR-MGF, Eq 9 and 10; Meta-GF)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from offramp.methods.loops.staged._copies import Copies
from offramp.methods.loops.staged._functions import weighted_mean
from offramp.methods.loops.staged._importance import Importance, normalised

__all__ = ["LearnedMean"]


class LearnedMean:
    """Fused value of every tensor that several outputs own, ``sum_k a_k W_k / sum_k a_k`` over its owners.

    Args:
        owners: Outputs that own each shared tensor, by its name.
        units: Leading part of each tensor's shape over which weights a_k differ: the whole shape for one
            weight per element, none of it for a single weight. A tensor that is missing has equal weights.
        positive: Learned variable -> positive weight.
        start: Output -> first value of its variables.
        importance: Importance that the weights are multiplied by, where there is any.
        learn_importance: Whether this importance is learned too.
        like: A Tensor of the wanted device and type.
    """

    def __init__(
        self,
        owners: Mapping[str, tuple[int, ...]],
        units: Mapping[str, torch.Size],
        *,
        positive: Callable[[Tensor], Tensor],
        start: Callable[[int], float],
        importance: Importance | None = None,
        learn_importance: bool = False,
        like: Tensor,
    ) -> None:
        self.owners, self.positive = owners, positive
        self.importance, self.learn_importance = importance, learn_importance
        self.variables: dict[str, nn.Parameter] = {}
        for name, unit in units.items():
            initial = like.new_tensor([start(output) for output in owners[name]])
            initial = initial.reshape(-1, *(1,) * len(unit)).repeat(1, *unit)
            self.variables[name] = nn.Parameter(initial)

    def weights(self, name: str) -> Tensor:
        """Weights a_k of a tensor, ``[owners, ...]``, not normalised."""
        scale = self.scale(name)
        if self.importance is None or name not in self.importance.owners:
            return torch.ones(len(self.owners[name])) if scale is None else scale
        importance = normalised(self.importance.of(name))
        if not self.learn_importance:
            importance = importance.detach()
        return importance if scale is None else importance * scale

    def scale(self, name: str) -> Tensor | None:
        """Learned factor of a tensor's weights, if there is one."""
        return self.positive(self.variables[name]) if name in self.variables else None

    def fused(self, copies: Copies) -> dict[str, Tensor]:
        """Fused tensors, by name."""
        means = {}
        for name in self.owners:
            tensors = copies.states(name)
            means[name] = weighted_mean(tensors, self.weights(name).to(tensors[0]))
        return means

    def learned(self) -> dict[str, nn.Parameter]:
        """Variables that are learned, by name."""
        if self.importance is None or not self.learn_importance:
            return self.variables
        return self.variables | dict(self.importance.named_parameters())

    def values(self) -> dict[str, Tensor]:
        """Copies of the learned variables, by name."""
        return {name: value.detach().clone() for name, value in self.learned().items()}

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Set the learned variables to values, by name."""
        with torch.no_grad():
            for name, parameter in self.learned().items():
                parameter.copy_(values[name])
