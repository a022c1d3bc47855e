"""Values of a JSON file that may have come to harm, each taken as what it has to be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

from offramp_runtime._errors import BundleError, shown

__all__ = ["Fields", "is_number", "is_whole", "parsed", "strict_json"]

MOST = 2**63 - 1  # of a whole number in a file


class Fields:
    """The fields of an object in a JSON file.

    Args:
        value: The object.
        where: Its place, as errors name it: ``manifest.json``, or ``manifest.json: exits[0]``.

    Raises:
        BundleError: It is no object. Each method raises it as well, where a field is missing or of another
            kind.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise BundleError(f"{where} is {shown(value)}, must be an object")
        self._values, self._where = value, where

    def get(self, name: str) -> Any:
        """A field of any kind."""
        if name not in self._values:
            raise BundleError(f"{self._where} has no {shown(name)}")
        return self._values[name]

    def wrong(self, name: str, must: str) -> BundleError:
        """The error that says what a field must be."""
        return BundleError(f"{self._where}: {name} is {shown(self._values.get(name))}, must be {must}")

    def text(self, name: str) -> str:
        """A text that is not empty."""
        value = self.get(name)
        if not _is_text(value):
            raise self.wrong(name, "a text")
        return str(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def whole(self, name: str, least: int) -> int:
        """A whole number from some number on."""
        value = self.get(name)
        if not is_whole(value, least, MOST):
            raise self.wrong(name, f"a whole number of at least {least}")
        return int(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """One text or more."""
        value = self.get(name)
        if not isinstance(value, list) or not value or not all(map(_is_text, value)):
            raise self.wrong(name, "a list of texts")
        return (*value,)

    def sizes(self, name: str, least: int = 1) -> tuple[int, ...]:
        """A list of whole numbers from some number on."""
        value = self.get(name)
        if not isinstance(value, list) or not all(is_whole(each, least, MOST) for each in value):
            raise self.wrong(name, f"a list of whole numbers of at least {least}")
        return (*value,)

    def axes(self, name: str) -> tuple[int | None, ...] | None:
        """The lengths of an array's axes, null for a free one; or null for a free shape."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(each is None or is_whole(each, 1, MOST) for each in value):
            raise self.wrong(name, "a list of whole numbers of at least 1, null where an axis is free")
        return (*value,)

    def objects(self, name: str) -> Iterator[Fields]:
        """The objects of a list."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list of objects")
        return (Fields(each, f"{self._where}: {name}[{place}]") for place, each in enumerate(value))

    def object(self, name: str) -> Fields:
        """An object."""
        return Fields(self.get(name), f"{self._where}: {name}")


def parsed(content: bytes, where: str) -> Fields:
    """The object that a JSON file holds.

    Args:
        content: The file's content.
        where: The file, as errors name it.

    Raises:
        BundleError: It is no JSON (which has no NaN), has a key twice, or is no object.
    """
    try:
        return Fields(strict_json(content), where)
    except RecursionError:
        raise BundleError(f"{where} is nested too deep") from None
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{where} is no JSON: {error}") from None


def strict_json(content: bytes | bytearray) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: It is no JSON (which has no NaN), or has a key twice in one object.
        RecursionError: It is nested too deep.
    """
    return json.loads(content, object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return values


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _is_text(value: Any) -> bool:
    """Whether this is a text that can be written; half of a surrogate pair cannot."""
    return isinstance(value, str) and value != "" and not any("\ud800" <= c <= "\udfff" for c in value)


def is_whole(value: object, least: int = 1, most: float = math.inf) -> bool:
    """Whether this is a whole number within bounds, of Python or of numpy; true and false are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def is_number(value: object) -> bool:
    """Whether this is a finite number, of Python or of numpy; true and false are none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False
