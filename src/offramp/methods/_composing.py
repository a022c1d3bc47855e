"""Several methods as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offramp.errors import UserError
from offramp.methods.method import AXES, Method

__all__ = ["compose"]


def compose(rows: Sequence[Method]) -> Method:
    """Several methods as one: forks multiply; on every other axis one of them chooses.

    Args:
        rows: Methods that choose on different axes, in the order of the table.

    Raises:
        UserError: Two of them choose on the same axis, or one leaves nothing to choose.
    """
    name = "+".join(row.name for row in rows)
    for row in rows:
        if row.separate:
            raise UserError(f"{name!r}: {row.name!r} shares nothing, so no other method has anything to do")
        if not row.axes:
            raise UserError(f"{name!r}: {row.name!r} is what every method starts from; leave it out")
    parts: dict[str, Any] = {}
    for axis in AXES:
        choosing = [row for row in rows if axis in row.axes]
        if axis == "fork":
            parts[axis] = tuple(rule for row in choosing for rule in row.forks)
        elif len(choosing) > 1:
            names = " and ".join(repr(row.name) for row in choosing)
            raise UserError(
                f"{name!r}: {names} each bring their own {axis}, "
                f"and {'an epoch' if axis == 'loop' else 'a step'} has one; choose one of them"
            )
        elif choosing:
            parts[axis] = choosing[0].parts[axis]
    kinds = [type(rule) for rule in parts["fork"]]
    if len(set(kinds)) < len(kinds):
        raise UserError(f"{name!r} names the same fork twice; name it once")
    return Method(
        name=name,
        summary="; ".join(row.summary for row in rows),
        paper="; ".join(row.paper for row in rows),
        parts=parts,
        rows={kind: row for each in rows for kind, row in each.rows.items()},
    )
