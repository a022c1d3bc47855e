"""Import a user's own code, and name file and line where it fails."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from offramp.errors import UserError, cut, guess, shown
from offramp.paths import user_path

__all__ = ["blamed", "find"]


def find(module: str, attribute: str) -> Any:
    """Import a module and return what it has under a name.

    Args:
        module: A module that can be imported from here, or a file that ends in ``.py``.
        attribute: The name.

    Raises:
        UserError: No such module, file or name, or it fails as it is imported.
    """
    imported = _from_file(module) if module.endswith(".py") else _from_path(module)
    names = [name for name in vars(imported) if not name.startswith("_")]
    if attribute not in vars(imported):
        raise UserError(
            f"{module} has no {shown(attribute)}{guess(attribute, names)}; name a function or a net of it"
        )
    return vars(imported)[attribute]


@contextlib.contextmanager
def blamed(module: str, prefix: str) -> Iterator[None]:
    """Turn any error of a user's code into one line; modules that lie beside it can be imported.

    Args:
        module: As for :func:`find`.
        prefix: Begins the line.

    Raises:
        UserError: In place of whatever the code raises, sys.exit() too, with file and line.
    """
    folder = user_path(module).resolve().parent if module.endswith(".py") else Path.cwd()
    sys.path.insert(0, str(folder))
    try:
        yield
    except (Exception, SystemExit) as error:
        raise UserError(f"{prefix}: {_in_one_line(error, folder)}") from error
    finally:
        with contextlib.suppress(ValueError):  # the code may have taken it out
            sys.path.remove(str(folder))


def _from_file(file: str) -> ModuleType:
    path = user_path(file)
    if not os.path.isfile(path):  # also where no file can have such a name
        lacking = f"{shown(file)} is no file" if os.path.exists(path) else f"there is no file {shown(file)}"
        raise UserError(f"{lacking}; give the file that holds your network")
    path = path.resolve()
    name = f"offramp users file {path}"  # no import statement can mean it
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None  # the name ends in .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look there
        try:
            with blamed(file, f"cannot import {file}"):
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _from_path(module: str) -> ModuleType:
    with blamed(module, f"cannot import {module}"):
        try:
            if not module.startswith("."):  # relative to nothing
                return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # one that the user's code imports
    raise UserError(
        f"there is no module {shown(module)} here; give one that Python can import from {Path.cwd()}, "
        "or a file, e.g. path/to/file.py:build"
    )


def _in_one_line(error: BaseException, folder: Path) -> str:
    """Where in the user's folder it was raised, and what it says, in one line and in Python's words."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(folder) and "site-packages" not in f.filename]
    place = "".join(f"{f.filename}, line {f.lineno}: " for f in own[-1:])
    if isinstance(error, SystemExit):
        return f"{place}it ends the program; put what is not to run on import under if __name__ == '__main__'"
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    try:
        said = str(error).partition("\n")[0]
    except Exception:  # of a class of the user's own
        said = "what it says cannot be shown"
    return f"{place}{kind}{cut(said, 500)}"
