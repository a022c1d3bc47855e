"""``python -m offramp_runtime``, and the program ``offramp-runtime``."""

from __future__ import annotations

import sys
from typing import NoReturn

from offramp_runtime._command import main
from offramp_runtime._standard_streams import open_standard_streams

__all__ = ["program"]


def program() -> NoReturn:
    """Run the command that the process was started with, and end."""
    open_standard_streams()
    sys.exit(main())


if __name__ == "__main__":
    program()
