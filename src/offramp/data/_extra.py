"""Import of optional packages, late and with one clear line when they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from offramp.errors import UserError

__all__ = ["extra"]


def extra(module: str) -> ModuleType:
    """Import a module that the `data` extra brings.

    Raises:
        UserError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"this data set needs {module}: pip install 'offramp[data]'") from error
