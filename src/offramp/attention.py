"""Attention as its single steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["plain_attention", "plain_layers"]


@contextmanager
def plain_attention() -> Iterator[None]:
    """Have attention, and layers made of it, run as plain products, and not as one fused operator."""
    with plain_layers(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def plain_layers() -> Iterator[None]:
    """Have torch's layers made of attention run it by itself, and not as one operator of the whole layer."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
