"""Seed the global random generators by a key, for code that draws from them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["drawing", "states"]


@contextmanager
def drawing(*key: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU) by the key, and restore them after."""
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])


def states() -> tuple[Any, ...]:
    """The states of the global generators, to be compared."""
    numpy = np.random.get_state(legacy=False)
    return (
        random.getstate(),
        repr(numpy["state"]["key"].tobytes()),
        numpy["state"]["pos"],
        numpy["has_gauss"],
        torch.default_generator.get_state().numpy().tobytes(),
    )
