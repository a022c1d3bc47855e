"""Resident memory of this process, of which the system keeps the highest value."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

__all__ = ["AT_ONCE", "resident_peak"]

# what is freed goes back at once, so that figures are of what lives and not of the allocator's habits
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def resident_peak(run: Callable[[], object]) -> float:
    """MiB that some work adds to this process's resident memory at its height.

    Args:
        run: The work, in a process that was started with :data:`AT_ONCE` in its environment.
    """
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _kib("VmRSS")
    run()
    return (_kib("VmHWM") - before) / 1024


def _kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))
