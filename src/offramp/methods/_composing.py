"""Compose several methods into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offramp.errors import UserError, shown
from offramp.methods.method import AXES, Method

__all__ = ["compose"]

WHOLE = {"loop": "an epoch", "regime": "a training"}  # what has one part of an axis, where it is no step


def compose(methods: Sequence[Method]) -> Method:
    """Compose several methods into one: forks multiply; on every other axis one of them at most chooses.

    Args:
        methods: Methods that choose on different axes, in the order of the table.

    Raises:
        UserError: Two of them choose on the same axis, or one leaves nothing to choose.
    """
    name = "+".join(method.name for method in methods)
    for method in methods:
        if method.separate:
            raise UserError(
                f"{shown(name)}: {shown(method.name)} shares nothing, so no other method has anything to do"
            )
        if not method.axes:
            raise UserError(
                f"{shown(name)}: {shown(method.name)} is what every method starts from; leave it out"
            )
    parts: dict[str, Any] = {}
    for axis in AXES:
        choosing = [method for method in methods if axis in method.axes]
        if axis == "fork":
            parts[axis] = tuple(rule for method in choosing for rule in method.forks)
        elif len(choosing) > 1:
            names = " and ".join(repr(method.name) for method in choosing)
            raise UserError(
                f"{shown(name)}: {names} each bring their own {axis}, "
                f"and {WHOLE.get(axis, 'a step')} has one; choose one of them"
            )
        elif choosing:
            parts[axis] = choosing[0].parts[axis]
    kinds = [type(rule) for rule in parts["fork"]]
    if len(set(kinds)) < len(kinds):
        raise UserError(f"{shown(name)} names the same fork twice; name it once")
    return Method(
        name=name,
        summary="; ".join(method.summary for method in methods),
        paper="; ".join(method.paper for method in methods),
        parts=parts,
        rows={kind: name for method in methods for kind, name in method.rows.items()},
    )
