"""offramp: networks with several outputs that do not fight each other."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError

if TYPE_CHECKING:
    from offramp.training import Recipe, Run, fit

__all__ = ["Recipe", "Run", "UserError", "fit"]
__version__ = "0.1.0"

# Imported at the first use, so that `import offramp` is quick.
_LATE = {"Recipe": "offramp.training", "Run": "offramp.training", "fit": "offramp.training"}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'offramp' has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
