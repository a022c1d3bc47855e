"""What a training leaves as it is: frozen parts of a net, and parts that stay in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from offramp.errors import UserError, shown
from offramp.modes import all_frozen, modes_kept, outermost_in_eval, to_training

__all__ = ["check_left_alone", "left_alone"]

_REMEDIES = {
    "frozen": "freeze these parts and no others, by requires_grad_",
    "eval_mode": "call train() on the net and eval() on these parts",
}


def left_alone(net: nn.Module) -> dict[str, list[str]]:
    """Names of what a training of the net would leave as it is.

    Returns:
        ``frozen``: outermost modules whose parameters are all frozen, and single frozen parameters elsewhere;
        ``eval_mode``: outermost modules that stay in evaluation mode (:func:`~offramp.modes.to_training`).
    """
    with modes_kept(net):
        to_training(net)
        return {"frozen": [*_frozen(net)], "eval_mode": [*outermost_in_eval(net)]}


def check_left_alone(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that a training that goes on leaves the same parts alone; an old record does not tell.

    Raises:
        UserError: It would not.
    """
    for key, remedy in _REMEDIES.items():
        old, new = before.get(key), now[key]
        if old is not None and sorted(old) != sorted(new):
            raise UserError(
                f"{folder} holds a run with other parts of the net {key.replace('_', ' ')}: they were "
                f"{shown(old)}, are {shown(new)}; {remedy}, or choose another folder"
            )


def _frozen(module: nn.Module, name: str = "") -> Iterator[str]:
    if all_frozen(module):
        yield name
        return
    dot = f"{name}." if name else ""
    for parameter_name, parameter in module.named_parameters(recurse=False):
        if not parameter.requires_grad:
            yield dot + parameter_name
    for child, inner in module.named_children():
        yield from _frozen(inner, dot + child)
