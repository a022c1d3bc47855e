"""How often a step goes through the network, as a number and in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["EACH", "NONE", "ONE", "K", "Linear", "Passes"]


@dataclass(frozen=True)
class Linear:
    """A number that is linear in the number of outputs K, ``(slope K + constant) / over``, or that over K.

    Written as arithmetic with :data:`K`: ``K``, ``0.5 * K + 1``, ``(K + 1) / 2``.

    Attributes:
        slope: See above.
        constant: See above.
        over: See above.
        of_tasks: The number where every output needs the whole network, as tasks do; None: it is the same.
        over_outputs: Whether it is divided by K too.
    """

    slope: float = 0.0
    constant: float = 0.0
    over: int = 1
    of_tasks: Linear | None = None
    over_outputs: bool = False

    def __add__(self, number: float) -> Linear:
        return replace(self, constant=self.constant + number * self.over)

    def __rmul__(self, number: float) -> Linear:
        return replace(self, slope=number * self.slope, constant=number * self.constant)

    def __truediv__(self, whole: int) -> Linear:
        of_tasks = None if self.of_tasks is None else self.of_tasks / whole
        return replace(self, over=self.over * whole, of_tasks=of_tasks)

    @property
    def per_output(self) -> Linear:
        """The number divided by K."""
        return replace(self, over_outputs=True)

    def of(self, outputs: int) -> float:
        """The value of the expression for a number of outputs K."""
        over = self.over * (outputs if self.over_outputs else 1)
        return (self.slope * outputs + self.constant) / over

    def __str__(self) -> str:
        terms = []
        if self.slope:
            terms.append("K" if self.slope == 1 else f"{self.slope:g} K")
        if self.constant or not terms:
            terms.append(f"{self.constant:g}")
        words = " + ".join(terms)
        over = [f"{self.over}"] * (self.over != 1) + ["K"] * self.over_outputs
        if not over:
            return words
        divisor = over[0] if len(over) == 1 else f"({' '.join(over)})"
        return f"({words}) / {divisor}" if len(terms) > 1 else f"{words} / {divisor}"


K = Linear(slope=1.0)
ONE = Linear(constant=1.0)
# of each output alone: exits that are evenly spaced need half of the network on average, tasks all of it
EACH = replace((K + 1) / 2, of_tasks=K)


@dataclass(frozen=True)
class Passes:
    """Forward and backward passes of joint training that a step takes, or an epoch over its batches.

    Passes add up (``+``) and scale (``factor * passes``), and print as they were put together, F a forward
    and B a backward pass: ``str(Passes(1, (K + 1) / 2) + Passes(0, 1))`` is ``"F + (K + 1) / 2 B + B"``.

    Attributes:
        forward: How many forward passes: a number, or one with :data:`K` in it.
        backward: How many backward passes.
        factor: Multiplies both numbers.
        more: Further passes.
    """

    forward: Linear | float = 1.0
    backward: Linear | float = 1.0
    factor: float = 1.0
    more: tuple[Passes, ...] = ()

    def __add__(self, other: Passes) -> Passes:
        return self if other == NONE else replace(self, more=(*self.more, other))

    def __rmul__(self, factor: float) -> Passes:
        return replace(self, factor=factor * self.factor, more=tuple(factor * other for other in self.more))

    def of_tasks(self) -> Passes:
        """The passes where every output needs the whole network: K tasks in place of K exits."""
        forward, backward = (_linear(number) for number in (self.forward, self.backward))
        return replace(
            self,
            forward=forward.of_tasks or forward,
            backward=backward.of_tasks or backward,
            more=tuple(other.of_tasks() for other in self.more),
        )

    def of(self, outputs: int) -> tuple[float, float]:
        """How many forward and backward passes there are with so many outputs."""
        forward, backward = (self.factor * _linear(n).of(outputs) for n in (self.forward, self.backward))
        for other in self.more:
            also = other.of(outputs)
            forward, backward = forward + also[0], backward + also[1]
        return forward, backward

    def joint(self, outputs: int) -> float:
        """Cost in steps of joint training; a backward pass counts as two forward passes."""
        forward, backward = self.of(outputs)
        return (forward + 2 * backward) / 3

    def __str__(self) -> str:
        forward, backward = _linear(self.forward), _linear(self.backward)
        if forward == backward and forward != Linear(constant=1.0):
            words = _times(forward, "(F + B)")
        else:
            counts = ((forward, "F"), (backward, "B"))
            words = " + ".join(_times(count, unit) for count, unit in counts if count != Linear())
        if self.factor != 1:
            words = f"{self.factor:g} ({words})"
        return " + ".join([words, *map(str, self.more)])


NONE = Passes(0, 0)


def _linear(number: Linear | float) -> Linear:
    return number if isinstance(number, Linear) else Linear(constant=float(number))


def _times(count: Linear, unit: str) -> str:
    if count == Linear(constant=1.0):
        return unit
    several = count.over == 1 and count.slope and count.constant
    return f"({count}) {unit}" if several else f"{count} {unit}"
