"""The table of named methods: which fork, objective and combiner each one is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from offramp.combiners import backward_sum
from offramp.errors import UserError, guess
from offramp.forks import Fork, GainFork, Partition, SliceFork, partition, remove
from offramp.nets import MultiExitNet
from offramp.objectives import Step, cross_entropy

__all__ = ["METHODS", "Method", "method"]

Objective = Callable[[Step], list[Tensor]]
Combiner = Callable[[Sequence[Tensor], Step, Callable[[Tensor], None]], None]


@dataclass(frozen=True)
class Method:
    """One row of the table: independent choices, one per axis.

    Attributes:
        name: What the command line calls it.
        summary: One line.
        paper: Where it comes from.
        fork: What crosses a fork, or None for the plain fork.
        objective: A step's outputs -> K losses.
        combiner: K losses -> gradients.
    """

    name: str
    summary: str
    paper: str
    fork: Partition | None = None
    objective: Objective = cross_entropy
    combiner: Combiner = backward_sum

    def prepare(self, net: MultiExitNet) -> None:
        """Install the method's fork on the net, in place; a partition that is on it already makes way.

        Raises:
            UserError: The method has the plain fork and the net does not, or the fork does not fit the net.
        """
        if self.fork is not None:
            if any(isinstance(fork, GainFork) for fork in net.forks):
                remove(net)
            partition(net, self.fork)
        elif any(type(fork) not in (Fork, SliceFork) for fork in net.forks):
            raise UserError(
                f"method {self.name!r} trains plain forks, and this net's are not; "
                "take them off first with offramp.forks.remove(net)"
            )

    @property
    def options(self) -> dict[str, Any]:
        """The method's options and their values: the fields of its fork."""
        return {} if self.fork is None else dataclasses.asdict(self.fork)


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("joint", "the plain sum of all exits' losses (DSN)", "Lee et al., AISTATS 2015"),
        Method(
            "dfs",
            "Deep Feature Surgery: partition each exit's features, cut the gradients that conflict",
            "Gong et al., ECCV 2024",
            fork=Partition(),
        ),
    )
}


def method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """The named method with the given options.

    Args:
        name: A key of :data:`METHODS`.
        options: Values for the method's options, e.g. ``{"beta": 0.9}`` for ``dfs``.

    Raises:
        UserError: No such method, no such option, or a value out of range.
    """
    if name not in METHODS:
        raise UserError(f"no method {name!r}{guess(name, METHODS)}; there are: {', '.join(METHODS)}")
    row = METHODS[name]
    for key in options or {}:
        if key not in row.options:
            known = ", ".join(row.options) or "none"
            raise UserError(
                f"method {name!r} has no option {key!r}{guess(key, row.options)}; it has: {known}"
            )
    if not options or row.fork is None:
        return row
    return dataclasses.replace(row, fork=dataclasses.replace(row.fork, **options))
