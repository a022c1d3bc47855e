"""Try a network out and leave no trace of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["untouched"]


@contextmanager
def untouched(backbone: nn.Module) -> Iterator[None]:
    """Give ``backbone`` its attributes, modes and buffers back at the end, and torch its random state."""
    attributes = [(module, dict(vars(module))) for module in backbone.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in backbone.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    gpus = sorted({tensor.get_device() for tensor in backbone.parameters() if tensor.is_cuda})
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        for module, before in attributes:
            vars(module).clear()
            vars(module).update(before)
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                setattr(module, name, buffer.copy_(value))
