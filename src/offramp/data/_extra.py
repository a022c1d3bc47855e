"""Import of optional packages, late and with one clear line when they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from offramp.errors import UserError

__all__ = ["extra"]


def extra(module: str, bundle: str = "data") -> ModuleType:
    """Import a module that an extra of the package brings.

    Args:
        module: Its name.
        bundle: The extra.

    Raises:
        UserError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"this data set needs {module}: pip install 'offramp[{bundle}]'") from error
