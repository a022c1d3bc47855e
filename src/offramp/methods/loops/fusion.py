"""K states of one net become one: a mean under learned positive weights (DR-MGF, Eq 9 and 10; Meta-GF)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from offramp.methods.loops.copies import Copies
from offramp.methods.loops.kernels import weighted_mean
from offramp.methods.loops.routes import CONVOLUTIONS, Routes, normalised

__all__ = ["Fusion", "is_bias", "kernels_of"]


class Fusion:
    """The fused value of every tensor that several tasks own, ``sum_k a_k W_k / sum_k a_k`` over its owners.

    Args:
        owners: Of each shared tensor, by name.
        units: Of each tensor the first axes of its shape that have weights a_k of their own: all of them for
            one weight per element, none for one weight in all. A tensor that is missing has equal weights.
        positive: Learned variable -> positive weight.
        start: Task -> first value of its variables.
        routes: Importance that the weights are multiplied by, where there is any.
        learn_routes: Whether the fusion learns this importance too.
        like: A Tensor of the wanted device and type.
    """

    def __init__(
        self,
        owners: Mapping[str, tuple[int, ...]],
        units: Mapping[str, torch.Size],
        *,
        positive: Callable[[Tensor], Tensor],
        start: Callable[[int], float],
        routes: Routes | None = None,
        learn_routes: bool = False,
        like: Tensor,
    ) -> None:
        self.owners, self.positive = owners, positive
        self.routes, self.learn_routes = routes, learn_routes
        self.variables: dict[str, nn.Parameter] = {}
        for name, unit in units.items():
            first = like.new_tensor([start(task) for task in owners[name]])
            first = first.reshape(-1, *(1,) * len(unit)).repeat(1, *unit)
            self.variables[name] = nn.Parameter(first)

    def weights(self, name: str) -> Tensor:
        """a_k of a tensor, ``[owners, ...]``; not normalised."""
        scale = self.scale(name)
        if self.routes is None or name not in self.routes.owners:
            return torch.ones(len(self.owners[name])) if scale is None else scale
        importance = normalised(self.routes.importance(name))
        if not self.learn_routes:
            importance = importance.detach()
        return importance if scale is None else importance * scale

    def scale(self, name: str) -> Tensor | None:
        """The learned factor of a tensor's weights, if there is one."""
        return self.positive(self.variables[name]) if name in self.variables else None

    def fuse(self, copies: Copies) -> dict[str, Tensor]:
        """The fused tensors, by name."""
        fused = {}
        for name in self.owners:
            tensors = copies.of(name)
            fused[name] = weighted_mean(tensors, self.weights(name).to(tensors[0]))
        return fused

    def learnt(self) -> dict[str, nn.Parameter]:
        """What the fusion learns, by name."""
        if self.routes is None or not self.learn_routes:
            return self.variables
        return self.variables | dict(self.routes.named_parameters())

    def values(self) -> dict[str, Tensor]:
        """A copy of what is learnt, by name."""
        return {name: value.detach().clone() for name, value in self.learnt().items()}

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Put values back."""
        with torch.no_grad():
            for name, parameter in self.learnt().items():
                parameter.copy_(values[name])


def kernels_of(net: nn.Module) -> set[str]:
    """Names of the weights that consist of kernels: those of convolutions."""
    return {
        f"{path}.weight" if path else "weight"
        for path, module in net.named_modules()
        if isinstance(module, CONVOLUTIONS)
    }


def is_bias(net: nn.Module, name: str) -> bool:
    """Whether a parameter is added to what a weight of more axes gives: the bias of no norm layer."""
    path, _, last = name.rpartition(".")
    weight = getattr(net.get_submodule(path), "weight", None)
    return last == "bias" and isinstance(weight, Tensor) and weight.dim() > 1
