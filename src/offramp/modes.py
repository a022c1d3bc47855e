"""Train mode, eval mode and what lies between, for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["evaluating", "measuring", "modes_kept"]


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
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    with modes_kept(net):
        net.eval()
        for module in net.modules():
            if isinstance(module, _NormBase):
                module.train()
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


@contextmanager
def modes_kept(net: nn.Module) -> Iterator[None]:
    """Put each module back in its own mode afterwards."""
    modes = {module: module.training for module in net.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
