"""Linear layers that bring the features of every exit to the length of the last exit's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.methods.objectives.step import Step
from offramp.nets import MultiExitNet, last_linear
from offramp.tasks.soft_targets import check_soft_targets
from offramp.tasks.task import wide

__all__ = ["Adaptation"]

Losses = Callable[[Step, list[Tensor], Tensor], list[Tensor]]


class Adaptation(nn.Module):
    """An objective that compares features, with the layers that make them comparable.

    The layers start from PyTorch's defaults, drawn apart from the run's random numbers: several processes
    start equal, and dropout draws what it draws in joint training.

    Args:
        losses: A step, the K-1 adapted features ``[N, D_K]`` and the last exit's feature ``[N, D_K]``, which
            has no gradient -> K losses.
        net: Its heads end in linear layers, which read D_1, ..., D_K channels.
        seed: Of the layers.
        always: Adapt every feature; otherwise one with D_k = D_K stays as it is.

    Raises:
        UserError: A head does not end in a linear layer.
    """

    def __init__(self, losses: Losses, net: nn.Module, seed: int = 0, *, always: bool) -> None:
        super().__init__()
        if not isinstance(net, MultiExitNet):
            raise UserError(f"this method compares the features of exits, and {type(net).__name__} has none")
        check_soft_targets(net.outputs.values())
        self._losses = losses
        *dims, last = (last_linear(net, exit).in_features for exit in range(1, net.num_exits + 1))
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        try:
            self.layers = nn.ModuleList(
                nn.Linear(dim, last) if always or dim != last else nn.Identity() for dim in dims
            )
        finally:
            torch.set_rng_state(state)
        self.layers.to(next(net.parameters()))

    def forward(self, step: Step) -> list[Tensor]:
        """Losses of a step with features, one per exit."""
        if step.features is None:
            raise ValueError("this objective needs a step with features")
        *features, target = map(wide, step.features)
        adapted = [layer(feature) for layer, feature in zip(self.layers, features, strict=True)]
        return self._losses(step, adapted, target.detach())
