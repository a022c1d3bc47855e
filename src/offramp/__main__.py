"""The program ``offramp``, which is ``python -m offramp`` as well."""

import _signal as signal  # what signal is made of; signal itself takes milliseconds to import
import os
import sys

__all__ = ["program"]


def program() -> None:
    """Run the command that the program was given, and exit with its code.

    Before and after the command a signal just ends the program, as Python's own answer to Ctrl-C would be a
    traceback from amid an import.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings are of lines in C++
    from offramp.cli import main
    from offramp.standard_streams import open_standard_streams

    open_standard_streams()
    sys.exit(main())


if __name__ == "__main__":
    program()
