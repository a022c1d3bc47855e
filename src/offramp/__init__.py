"""offramp: networks with several outputs that do not fight each other."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError

if TYPE_CHECKING:
    from offramp import nets
    from offramp.forks import partition, remove
    from offramp.nets import MultiExitNet, attach, cost
    from offramp.recipes import Recipe
    from offramp.runs import Run
    from offramp.training import fit

__all__ = [
    "MultiExitNet",
    "Recipe",
    "Run",
    "UserError",
    "attach",
    "cost",
    "fit",
    "nets",
    "partition",
    "remove",
]
__version__ = "0.1.0"

# Imported at the first use, so that `import offramp` is quick.
_LATE = {
    "MultiExitNet": "offramp.nets",
    "Recipe": "offramp.recipes",
    "Run": "offramp.runs",
    "attach": "offramp.nets",
    "cost": "offramp.nets",
    "fit": "offramp.training",
    "partition": "offramp.forks",
    "remove": "offramp.forks",
}


def __getattr__(name: str) -> Any:
    if name == "nets":
        return import_module("offramp.nets")
    if name not in _LATE:
        raise AttributeError(f"module 'offramp' has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    return __all__
