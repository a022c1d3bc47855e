"""The number of threads that torch computes with on a CPU; sums are in another order with another number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from offramp.say import say

__all__ = ["take_threads", "threads_given_back"]


@contextlib.contextmanager
def threads_given_back() -> Iterator[None]:
    """Leave torch with as many threads as it had."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_threads(before: dict[str, Any] | None) -> dict[str, int]:
    """Compute with as many threads as the run to go on with began with; a new run has as many as torch has.

    Args:
        before: What ``run.json`` of the run says; None for a new run.

    Returns:
        What ``run.json`` notes of them: nothing of a run that began before it did.
    """
    if before is not None and "threads" not in before:
        return {}
    threads: int = torch.get_num_threads() if before is None else before["threads"]
    torch.set_num_threads(threads)  # in a new run too: MKL may have had a number of its own
    if (here := torch.get_num_threads()) != threads:
        say(f"the run began with {threads} threads, and torch takes {here} here: its last bits may differ")
    return {"threads": threads}
