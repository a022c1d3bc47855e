"""Contexts of torch that a forward can enter, and that a graph of torch.fx does not note."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["autocast_everywhere", "contexts"]

_DEVICES = ("cpu", "cuda", "mps", "xpu")


def contexts() -> tuple[Any, ...]:
    """Contexts that are entered: no_grad, inference_mode, and the autocast of each device."""
    autocasts = ((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES)
    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocasts)


@contextmanager
def autocast_everywhere() -> Iterator[None]:
    """Autocast on every device, be it there or not, so that a region that switches it off can be seen."""
    before = {device: torch.is_autocast_enabled(device) for device in _DEVICES}
    try:
        for device in _DEVICES:
            torch.set_autocast_enabled(device, True)
        yield
    finally:
        for device, enabled in before.items():
            torch.set_autocast_enabled(device, enabled)
        torch.clear_autocast_cache()
