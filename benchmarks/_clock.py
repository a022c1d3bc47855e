"""Time, memory and precision of what runs on a device, which may lag behind the program."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

__all__ = ["DTYPES", "Clock", "precision"]

# name -> the dtype of autocast (None: none), and whether float32 products may be rounded to TF32
DTYPES: dict[str, tuple[torch.dtype | None, bool]] = {
    "float32": (None, False),
    "tf32": (None, True),
    "bfloat16": (torch.bfloat16, True),
    "float16": (torch.float16, True),
}


class Clock:
    """Measures work on a device.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, device: str) -> None:
        self.cuda = torch.device(device).type == "cuda"

    def seconds(self, run: Callable[[], object]) -> float:
        """How long the work takes: on a GPU between two events in its stream, from idle to idle."""
        if not self.cuda:
            began = time.perf_counter()
            run()
            return time.perf_counter() - began
        torch.cuda.synchronize()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3

    def peak(self, run: Callable[[], object]) -> float | None:
        """MiB that the work holds at its height beyond what was there before; None on a CPU."""
        if not self.cuda:
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


@contextlib.contextmanager
def precision(name: str, device: str) -> Iterator[contextlib.AbstractContextManager]:
    """Set whether products are in TF32, and give the autocast of a forward pass, which can be entered often.

    Args:
        name: A key of :data:`DTYPES`.
        device: ``"cpu"`` or ``"cuda"``.
    """
    dtype, tf32 = DTYPES[name]
    kinds = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [kind.allow_tf32 for kind in kinds]
    for kind in kinds:
        kind.allow_tf32 = tf32
    try:
        yield torch.autocast(
            torch.device(device).type, dtype=dtype or torch.bfloat16, enabled=dtype is not None
        )
    finally:
        for kind, allowed in zip(kinds, before, strict=True):
            kind.allow_tf32 = allowed
