"""Parts of a net frozen for a period of its training."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from torch import nn

__all__ = ["Freezing"]


class Freezing:
    """Freezes parts of a net, and makes all as it was when the block ends.

    A frozen part is in evaluation mode, since its batch statistics shall not move; what came frozen or in
    evaluation mode stays so.

    Args:
        net: The net, in the modes that it is trained in.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.trained = {p: p.requires_grad for p in net.parameters()}
        self.modes = {module: module.training for module in net.modules()}

    def all_but(self, modules: Iterable[nn.Module]) -> None:
        """Freeze everything but these modules of the net."""
        self.undo()
        modules = list(modules)
        kept = {p for module in modules for p in module.parameters()}
        inside = {part for module in modules for part in module.modules()} | {self.net}
        for parameter in self.trained.keys() - kept:
            parameter.requires_grad_(False)
        for module in self.modes.keys() - inside:
            module.training = False

    def undo(self) -> None:
        """Freeze nothing but what came frozen."""
        for parameter, trained in self.trained.items():
            parameter.requires_grad_(trained)
        for module, training in self.modes.items():
            module.training = training

    def __enter__(self) -> Freezing:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.undo()
