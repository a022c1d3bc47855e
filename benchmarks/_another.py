"""The package of another checkout, to be measured beside this one's in the same process."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["another"]


@functools.cache
def another(source: Path, *modules: str) -> ModuleType:
    """The package of another checkout, beside this one's in the same process.

    Args:
        source: Its src folder.
        *modules: What of it is needed, e.g. ``nets``; then an attribute of the package.
    """
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "offramp"}
    for name in ours:
        del sys.modules[name]
    sys.path.insert(0, str(source))
    try:
        for name in modules:
            importlib.import_module(f"offramp.{name}")
        theirs = sys.modules["offramp"]
        if not str(theirs.__file__).startswith(str(source.resolve())):
            raise SystemExit(f"--against {source} holds no package offramp")
        return theirs
    finally:
        sys.path.pop(0)
        for name in [n for n in sys.modules if n.partition(".")[0] == "offramp"]:
            del sys.modules[name]
        sys.modules.update(ours)
