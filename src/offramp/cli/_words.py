"""Settings in a message, as the flags that a command has for them.

The library's messages put a setting between single backticks, as Python has it: ``resume=True``, or with the
function that takes it, ``fit(..., resume=True)``. On the command line these read ``--resume`` and
``offramp train ... --resume``.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shlex
from collections.abc import Collection
from typing import Any

from offramp.cli._commands import COMMANDS, load

__all__ = ["in_flags"]

# What a user calls in Python -> the command that does it.
_COMMAND_OF = {"fit": "train", "Recipe": "train", "evaluate": "eval", "diagnose": "diagnose"}


def in_flags(text: str, command: str) -> str:
    """A message with its settings as flags of a command; what is no setting stays as it is.

    Args:
        text: The message.
        command: The command that was given, e.g. ``train``.
    """
    return re.sub("`([^`]+)`", lambda match: _flags(match[1], command) or match[0], text)


def _flags(code: str, command: str) -> str | None:
    """Flags for ``key=value, ...``, or for a call that has a command, with such arguments; else None."""
    call, name = _parsed(code), command
    if call is None:
        call = _parsed(f"given({code})")
    else:
        name = _COMMAND_OF.get(call.func.id, call.func.id)
    if call is None or name not in COMMANDS or not call.keywords:
        return None
    try:
        values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except ValueError:
        return None
    fields = {field.name for field in dataclasses.fields(load(name))}
    flags = " ".join(_flag(key, value, fields) for key, value in values.items())
    return flags if name == command else f"`offramp {name} {'... ' * bool(call.args)}{flags}`"


def _parsed(code: str) -> Any:
    """The parsed call in a piece of Python, if it calls a plain name; else None."""
    try:
        call = ast.parse(code, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    return call if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else None


def _flag(name: str, value: Any, fields: Collection[str]) -> str:
    if name not in fields:
        setting = f"{name}={_text(value)}"
        return f"--set {shlex.quote(setting)}" if "set" in fields else setting
    values = [] if value is True else value if isinstance(value, (list, tuple)) else [value]
    return " ".join([f"--{name.replace('_', '-')}", *(shlex.quote(_text(item)) for item in values)])


def _text(value: Any) -> str:
    """A value as the command line reads it: text as it is, the rest as YAML."""
    return "..." if value is ... else value if isinstance(value, str) else json.dumps(value)
