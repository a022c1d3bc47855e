"""Recipes as text: YAML files, the shipped ones, and ``key=value`` settings."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from offramp.checks import of_kind
from offramp.errors import UserError, guess, shown
from offramp.plain_yaml import parse_yaml
from offramp.text_file import read_text

__all__ = ["read", "setting", "shipped"]


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("offramp.recipes") / "published"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def read(source: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file, or of a shipped recipe by name.

    Raises:
        UserError: Neither a file nor a shipped name, or not a YAML mapping with text keys; the line names it.
    """
    text = _text(source)
    try:
        values = parse_yaml(text)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{source}: a recipe is a mapping of keys to values, e.g. 'epochs: 30'")
    return values


def _text(source: str | Path) -> str:
    names = shipped()
    if str(source) in names and not os.path.isfile(source):
        place = resources.files("offramp.recipes") / "published" / f"{source}.yaml"
        return place.read_text(encoding="utf-8")
    if os.path.lexists(source):
        return read_text(source, "the recipe", "give a YAML file")
    raise UserError(
        f"{source}: no such file, and no recipe of that name{guess(source, names)}; there are: "
        f"{', '.join(names)}"
    )


def setting(text: str) -> tuple[str, Any]:
    """``"key=value"`` -> the key and the value, typed as YAML would.

    Raises:
        UserError: No ``=`` in the text, or a value that is not YAML.
    """
    of_kind("setting", text, str, "a text such as 'lr=0.1'")
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"setting {shown(text)} must read key=value, e.g. lr=0.1")
    try:
        return key.strip(), parse_yaml(value)
    except UserError as error:
        raise UserError(f"setting {shown(text)}: {error}") from None
