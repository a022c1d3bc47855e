"""The net, the data and the method of a run, made again from its record alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from offramp.errors import UserError, shown
from offramp.methods import METHODS, Method, method
from offramp.nets import Net
from offramp.nets.text import build_noted, word
from offramp.recipes.recipe import Recipe
from offramp.runs import checkpoint
from offramp.runs.sets import open_recorded
from offramp.runs.shape import remedy

if TYPE_CHECKING:
    from offramp.data import OpenedData

__all__ = ["recorded_data", "recorded_method", "recorded_net"]

# What torch raises at a value that makes no layer.
_NO_LAYER = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def recorded_net(folder: Path, record: dict[str, Any]) -> Net:
    """The network with random weights.

    Raises:
        UserError: It was not built by ``offramp.nets``, a record's code being never imported by itself; or
            it cannot be built, or not with the weights that the run has kept.
    """
    spec = record["net"]
    if "shapes" in spec:
        raise UserError(
            f"{folder} holds weights of a network of your own, {word(spec)}, whose code is not run "
            "unasked; give it by `net=...`"
        )

    def build() -> Net:
        return build_noted(spec, tuple(record["data"]["input_size"]))

    instead = remedy(folder / "run.json")
    try:
        _check_memory(folder, build)
        return build()
    except UserError as error:
        raise UserError(f"{folder}: 'net' in its run.json: {error}; {instead}") from None
    except _NO_LAYER as error:
        reason = str(error).partition("\n")[0]
        told = f"is {shown(spec)}, which cannot be built ({reason})"
        raise UserError(f"{folder}: 'net' in its run.json {told}; {instead}") from None


def _check_memory(folder: Path, build: Callable[[], Net]) -> None:
    """Check that the weights of a net are no more than the run has kept, before there is memory for them.

    Raises:
        UserError: They are.
    """
    last = checkpoint.last(folder) or folder
    found = _size(folder / "weights.safetensors") or _size(last / "weights.safetensors")
    if found is None:
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            state = build().state_dict()
    except _NO_LAYER:  # which says why as it is built in earnest
        return
    needed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if found < needed:
        raise UserError(f"it is a net of {needed} bytes, and the run has kept weights of {found}")


def _size(path: Path) -> int | None:
    """How many bytes a file has; None where there is none, as once a training has replaced a checkpoint."""
    try:
        return path.stat().st_size
    except OSError:
        return None


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
