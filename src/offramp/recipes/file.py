"""Recipes as text: YAML files, the shipped ones, and ``key=value`` settings."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from offramp.errors import UserError, guess

__all__ = ["parse", "read", "setting", "shipped"]


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: 1e-4 is a number, and only true and false are booleans ("off" is a word)."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        initial: [
            (tag, pattern) for tag, pattern in rules if not tag.endswith((":bool", ":float", ":timestamp"))
        ]
        for initial, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_FLOAT = re.compile(
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|nan))$"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|false)$"), list("tf"))


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("offramp.recipes") / "published"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def read(source: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file, or of a shipped recipe by name.

    Raises:
        UserError: Neither a file nor a shipped name, or not a YAML mapping with text keys.
    """
    path = Path(source)
    names = shipped()
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot be read as text: {error}") from None
    elif str(source) in names:
        text = (resources.files("offramp.recipes") / "published" / f"{source}.yaml").read_text(
            encoding="utf-8"
        )
    else:
        close = guess(source, names)
        raise UserError(f"no such file, and no recipe of that name{close}; there are: {', '.join(names)}")
    values = parse(text)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError("a recipe is a mapping of keys to values, e.g. 'epochs: 30'")
    return values


def setting(text: str) -> tuple[str, Any]:
    """``"key=value"`` -> the key and the value, typed as YAML would.

    Raises:
        UserError: No ``=`` in the text, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"setting {text!r} must read key=value, e.g. lr=0.1")
    return key.strip(), parse(value)


def parse(text: str) -> Any:
    """What a YAML text says, as plain values.

    Raises:
        UserError: Not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only
    except yaml.YAMLError as error:
        raise UserError(f"not YAML: {' '.join(str(error).split())}") from None
