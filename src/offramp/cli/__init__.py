"""The command line: ``offramp COMMAND ...``, one file per command."""

from offramp.cli.main import main

__all__ = ["main"]
