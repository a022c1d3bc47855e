"""The table of named methods: which fork, objective and combiner each one is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offramp.errors import UserError, guess
from offramp.forks import Partition
from offramp.grammar import Method, compose

__all__ = ["METHODS", "Method", "method"]

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("joint", "the plain sum of all exits' losses (DSN)", "Lee et al., AISTATS 2015"),
        Method(
            "separate",
            "the yardstick: one network per exit, with nothing shared",
            "Gong et al., ECCV 2024, Fig 1",
            separate=True,
        ),
        Method(
            "dfs",
            "Deep Feature Surgery: partition each exit's features, cut the gradients that conflict",
            "Gong et al., ECCV 2024",
            forks=(Partition(),),
        ),
        Method(
            "dfs-no-reference",
            "Deep Feature Surgery without feature referencing: who does not train a channel does not read it",
            "Gong et al., ECCV 2024, Eq 6",
            forks=(Partition(reference="zero"),),
        ),
    )
}


def method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """The named method with the given options.

    Args:
        name: A key of :data:`METHODS`, or several joined by ``+`` that choose on different axes: ``dfs+kd``.
        options: Values for the method's options, e.g. ``{"beta": 0.9}`` for ``dfs``.

    Raises:
        UserError: No such method or option, a value out of range, or methods that do not combine.
    """
    names = name.split("+")
    for one in names:
        if one not in METHODS:
            raise UserError(f"no method {one!r}{guess(one, METHODS)}; there are: {', '.join(METHODS)}")
    # in the order of the table, so that dfs+kd and kd+dfs are one method
    rows = sorted((METHODS[one] for one in names), key=list(METHODS.values()).index)
    row = rows[0] if len(rows) == 1 else compose(rows)
    return row.with_options(options or {})
