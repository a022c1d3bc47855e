"""Train and eval mode for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating", "modes_kept"]


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and each back in its own mode afterwards."""
    with modes_kept(net):
        net.eval()
        yield


@contextmanager
def modes_kept(net: nn.Module) -> Iterator[None]:
    """Put each module back in its own mode afterwards."""
    modes = {module: module.training for module in net.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
