"""A module in another mode for a moment, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["buffers_kept", "evaluating", "measuring", "modes_kept"]


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and each back in its own mode afterwards."""
    with modes_kept(net):
        net.eval()
        yield


@contextmanager
def measuring(net: nn.Module) -> Iterator[None]:
    """Normalise by the statistics of the batch, as in training, but drop nothing out; then undo all of it.

    A loss before and after a small step differs by little. Dropout would draw anew in between and hide it.
    Modes and running statistics are the net's own again afterwards.
    """
    with modes_kept(net), buffers_kept(net):
        net.eval()
        for module in net.modules():
            if isinstance(module, _NormBase):
                module.train()
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


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Put every buffer's values back afterwards."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            # unseen by autograd, whose graph of the whole batch has saved the buffer
            buffer.data.copy_(value)
