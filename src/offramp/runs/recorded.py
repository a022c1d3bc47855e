"""The net, the data and the method of a run, made again from its record alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError, shown
from offramp.methods import METHODS, Method, method
from offramp.nets import Net
from offramp.nets.text import build_noted, word
from offramp.recipes.recipe import Recipe
from offramp.runs.sets import open_recorded

if TYPE_CHECKING:
    from offramp.data import OpenedData

__all__ = ["recorded_data", "recorded_method", "recorded_net"]


def recorded_net(folder: Path, record: dict[str, Any]) -> Net:
    """The network with random weights.

    Raises:
        UserError: It was not built by ``offramp.nets``; a record's code is never imported by itself.
    """
    spec = record["net"]
    if "shapes" in spec:
        raise UserError(
            f"{folder} holds weights of a network of your own, {word(spec)}, whose code is not run "
            "unasked; give it by `net=...`"
        )
    return build_noted(spec, tuple(record["data"]["input_size"]))


def recorded_data(folder: Path, record: dict[str, Any], recipe: Recipe) -> OpenedData[Any]:
    """The data set, opened again as the recipe says.

    Raises:
        UserError: It lies elsewhere by now, or it was an object in Python.
    """
    source = record["data"]["source"]
    try:
        return open_recorded(record, recipe)
    except UserError as error:
        raise UserError(
            f"{folder} was trained on {shown(source)}, which does not open ({error}); give the set by "
            "`data=...`, or go on in Python if it was an object there"
        ) from None


def recorded_method(folder: Path, record: dict[str, Any]) -> Method:
    """The method with its options.

    Raises:
        UserError: It is none that the library names, or has other options there.
    """
    name = record["method"]
    try:
        return method(name, record["options"])
    except UserError as error:
        own = not set(name.split("+")) <= set(METHODS)
        why = "a Method of your own" if own else f"which does not come from its name ({error})"
        raise UserError(
            f"{folder} was trained with {shown(name)}, {why}; give it again in Python, to Run.open or fit"
        ) from None
