"""Memory that ran out: how an error says so, how its remains are freed, and what the process took before."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import sys
import traceback
from collections.abc import Callable, Iterator

import torch

from offramp.errors import UserError

__all__ = [
    "bytes_in_words",
    "free_memory",
    "out_of_memory_told",
    "peak_memory",
    "ran_out_of_memory",
    "restart_peak",
    "samples_in_words",
]

# What errors of no class of their own say: torch's allocator for CPUs, C++, the drivers of accelerators.
_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "std::bad_alloc",
    "_STATUS_ALLOC_FAILED",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the host or of an accelerator is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words.lower() in str(error).lower() for words in _WORDS)


@contextlib.contextmanager
def out_of_memory_told(line: Callable[[], str]) -> Iterator[None]:
    """Turn an error of used-up memory in the ``with`` block into one line for the user.

    Args:
        line: Gives the line; called when it is needed.

    Raises:
        UserError: In place of what torch or Python raises.
    """
    try:
        yield
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # whose tensors would stay as long as the error is kept
        raise UserError(line()) from None


def free_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more: garbage in cycles, and what allocators keep for later."""
    gc.collect()
    if device.type == "cpu":
        if sys.platform.startswith("linux"):
            with contextlib.suppress(AttributeError):  # another C library than glibc
                ctypes.CDLL(None).malloc_trim(0)
    else:
        torch.accelerator.empty_cache()


def peak_memory(device: torch.device) -> int | None:
    """Most memory taken so far, in bytes: of a CUDA device by tensors, else by the process; None: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def restart_peak(device: torch.device) -> None:
    """Forget the peak so far, where that can be done: after an attempt that took too much."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # proc(5): the peak of the resident size becomes the present one


def bytes_in_words(count: int) -> str:
    """A number of bytes in words, e.g. ``"3.21 GB"``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def samples_in_words(samples: int) -> str:
    """A number of samples in words."""
    return "1 sample" if samples == 1 else f"{samples} samples"
