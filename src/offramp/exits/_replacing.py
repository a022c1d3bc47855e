"""One layer in place of another, wherever it stands in a module."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

__all__ = ["replace"]


def replace(module: nn.Module, old: nn.Module, new: nn.Module) -> Callable[[], None]:
    """Put a layer everywhere in another's place; return what undoes it."""
    places = [
        (parent, name)
        for parent in module.modules()
        for name, child in parent._modules.items()
        if child is old
    ]
    for parent, name in places:
        setattr(parent, name, new)

    def undo() -> None:
        for parent, name in places:
            setattr(parent, name, old)

    return undo
