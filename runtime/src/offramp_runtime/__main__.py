"""``python -m offramp_runtime``, and the program ``offramp-runtime``."""

from __future__ import annotations

import sys
from typing import NoReturn

from offramp_runtime._command import main

__all__ = ["program"]


def program() -> NoReturn:
    """Run the command that the process was started with, and end."""
    sys.exit(main())


if __name__ == "__main__":
    program()
