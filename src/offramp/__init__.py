"""offramp: networks with several outputs that do not fight each other."""

from __future__ import annotations

TYPE_CHECKING = False  # as of typing, whose import takes milliseconds in which a Ctrl-C would be a traceback
if TYPE_CHECKING:
    from typing import Any

    from offramp import analysis as analysis
    from offramp import bundles as bundles
    from offramp import counting as counting
    from offramp import data as data
    from offramp import distributed as distributed
    from offramp import exits as exits
    from offramp import flops as flops
    from offramp import forks as forks
    from offramp import methods, nets, tasks
    from offramp import papers as papers
    from offramp import recipes as recipes
    from offramp import reports as reports
    from offramp import reproduce as reproduce
    from offramp import runs as runs
    from offramp import sweeps as sweeps
    from offramp import training as training
    from offramp.bundles import export
    from offramp.counting import cost
    from offramp.data import open_data
    from offramp.errors import UserError
    from offramp.exits import Router, calibrate
    from offramp.forks import partition, remove
    from offramp.methods import method
    from offramp.nets import MultiExitNet, attach, multi_task
    from offramp.recipes import Recipe
    from offramp.reports import compare
    from offramp.runs import Run, load_pretrained
    from offramp.training import fit

__all__ = [
    "MultiExitNet",
    "Recipe",
    "Router",
    "Run",
    "UserError",
    "attach",
    "calibrate",
    "compare",
    "cost",
    "export",
    "fit",
    "load_pretrained",
    "method",
    "methods",
    "multi_task",
    "nets",
    "open_data",
    "partition",
    "remove",
    "tasks",
]
__version__ = "0.1.0"

# Imported at the first use, so that `import offramp` is quick.
_LATE = {
    "MultiExitNet": "offramp.nets",
    "Router": "offramp.exits",
    "Recipe": "offramp.recipes",
    "Run": "offramp.runs",
    "UserError": "offramp.errors",
    "attach": "offramp.nets",
    "calibrate": "offramp.exits",
    "compare": "offramp.reports",
    "cost": "offramp.counting",
    "export": "offramp.bundles",
    "fit": "offramp.training",
    "load_pretrained": "offramp.runs",
    "method": "offramp.methods",
    "multi_task": "offramp.nets",
    "open_data": "offramp.data",
    "partition": "offramp.forks",
    "remove": "offramp.forks",
}


def __getattr__(name: str) -> Any:
    """A name of the face, or a folder such as ``offramp.forks``, imported at its first use."""
    from importlib import import_module
    from importlib.util import find_spec

    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'offramp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
