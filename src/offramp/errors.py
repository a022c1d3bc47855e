"""The one exception a user sees."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(ValueError):
    """A mistake that the user can mend: one line that names the culprit and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """
