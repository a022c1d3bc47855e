"""Stdin, stdout and stderr that the program was started without, as ``offramp train 2>&-`` is."""

import os
import sys

__all__ = ["open_standard_streams"]


def open_standard_streams() -> None:
    """Lead those of them that are closed to the null device.

    Python has None in their place, and ``print(file=None)`` prints on stdout. The next file that is opened
    gets their number, and with it what C libraries tell there.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
