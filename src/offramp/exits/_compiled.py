"""Compiled segments, and the few batch sizes that they are compiled for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from offramp.exits.rows import Rows

__all__ = ["bucket", "compiled", "filled"]

LIMIT = 64  # batch sizes of one segment: buckets up to 2**32


def compiled(segment: nn.Module) -> Callable[..., Any]:
    """A segment compiled for each batch size that it meets."""
    run: Callable[..., Any]
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        # of its own, so that the sizes of one segment do not count against those of another
        apart: dict[str, Any] = {"isolate_recompiles": True, "recompile_limit": LIMIT}
        run = torch.compile(segment, dynamic=False, **apart)
        return run
    # torch 2.11 counts all segments of a process together
    import torch._dynamo.config as dynamo

    together: dict[str, Any] = dict.fromkeys(("recompile_limit", "accumulated_recompile_limit"), 2**16)
    run = dynamo.patch(**together)(torch.compile(segment, dynamic=False))
    return run


def bucket(n: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is n or more."""
    power = 1 << (n - 1).bit_length()
    return 3 * power // 4 if power >= 4 and n <= 3 * power // 4 else power


def filled(places: Sequence[int]) -> Rows:
    """Samples and then copies of the last of them, as many as fill their bucket."""
    return Rows([*places, *[places[-1]] * (bucket(len(places)) - len(places))])
