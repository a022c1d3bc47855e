"""Seed the global random generators by a key, for code that draws from them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["generator_states", "seeded"]


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU) by the key, and restore them after."""
    previous = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(previous[0])
        np.random.set_state(previous[1])
        torch.default_generator.set_state(previous[2])


def generator_states() -> tuple[Any, ...]:
    """States of the global generators, in a form that compares equal where they are."""
    numpy = np.random.get_state(legacy=False)
    return (
        random.getstate(),
        repr(numpy["state"]["key"].tobytes()),
        numpy["state"]["pos"],
        numpy["has_gauss"],
        torch.default_generator.get_state().numpy().tobytes(),
    )
