"""Work on a CPU without asking the operating system for the same memory again and again.

The C library hands large blocks back to the system as soon as they are free. Feature maps are such blocks, so
every forward pass has them mapped and cleared anew, page by page; ``benchmarks/README.md`` says what that
takes. An accelerator's allocator keeps what it once got, and so does this.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# of malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocations, as long as it lives.

    Returns:
        Whether it does from now on: it takes glibc's allocator, which is that of most Linux systems.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
