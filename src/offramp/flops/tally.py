"""A tally of the products of whatever runs, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch.utils.flop_counter import FlopCounterMode

from offramp.attention import plain_attention
from offramp.flops.operators import FORMULAS, Operators

__all__ = ["Counter", "Tally"]


class Tally:
    """Counts the multiply-accumulates of the convolutions and matrix products that really run.

    Attributes:
        hiding: Names of the operators that ran and may hold products, but have no formula.
    """

    def __init__(self) -> None:
        self._counter = Counter(display=False, custom_mapping=FORMULAS)
        self._operators = Operators(self._counter.flop_registry)
        self.hiding = self._operators.hiding
        self._aside = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates counted so far."""
        return (self._counter.get_total_flops() - self._aside) // 2  # a multiplication and an addition each

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count what runs in the ``with`` block; use it once."""
        with plain_attention(), self._operators, self._counter:
            yield

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave out what runs in the ``with`` block."""
        before, hiding = self._counter.get_total_flops(), len(self.hiding)
        try:
            yield
        finally:
            self._aside += self._counter.get_total_flops() - before
            del self.hiding[hiding:]


class Counter(FlopCounterMode):
    """Torch's counter without hooks on modules.

    They would have whole gradients of features computed, and stumble over an output that is a parameter.
    """

    def __init__(self, **how: object) -> None:
        super().__init__(**how)  # type: ignore[arg-type]
        self.mod_tracker = _NoModules()  # type: ignore[assignment]


class _NoModules(nullcontext[None]):
    parents = frozenset({"Global"})
