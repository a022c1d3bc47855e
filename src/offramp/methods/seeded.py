"""Random draws that resume exactly and are equal on all processes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(device: torch.device, *key: object) -> Iterator[None]:
    """Draw from torch's global generators as seeded by the key; afterwards they are as before.

    Args:
        device: Where draws happen, beside the CPU.
        key: Plain values, e.g. a counter.
    """
    seed = zlib.crc32(repr(key).encode())
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
