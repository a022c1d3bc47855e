"""Whether the parts of a method leave each other something to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from offramp.errors import UserError, shown
from offramp.forks import Rotation, Rule
from offramp.methods.bound import MethodParts
from offramp.methods.loops import Loop
from offramp.methods.regimes import Regime

__all__ = ["check_parts"]


class Parts(MethodParts, Protocol):
    """All parts of a method, as :class:`~offramp.methods.Method` has them."""

    @property
    def parts(self) -> Mapping[str, Any]:
        """Axis -> part."""

    @property
    def axes(self) -> Mapping[str, str]:
        """The axes on which the method chooses."""

    @property
    def forks(self) -> tuple[Rule, ...]:
        """Rules of what crosses a fork."""

    @property
    def loop(self) -> Loop:
        """How an epoch is organised."""

    @property
    def regime(self) -> Regime:
        """What is trained when."""

    @property
    def lasting(self) -> bool:
        """Whether the trained net is not the plain one."""

    def bringer(self, part: Any) -> str:
        """What messages call a part."""


def check_parts(method: Parts) -> None:
    """Check that each part of a method leaves the others something to do.

    Raises:
        UserError: One does not.
    """
    _check_weighted_sum(method)
    _check_learning(method)
    _check_regime(method)
    for rule in method.forks:
        if isinstance(rule, Rotation):
            _check_rotation(method, rule)


def _check_weighted_sum(method: Parts) -> None:
    """A loop with a backward pass of its own descends one weighted sum of the losses at a time."""
    for axis, purpose in (("balancer", "balance"), ("combiner", "combine")):
        part = method.parts[axis]
        if method.loop.own_backward and axis in method.axes and not getattr(part, "bilevel", False):
            loop, other = map(method.bringer, (method.loop, part))
            raise UserError(
                f"{shown(method.name)}: {shown(loop)} descends one weighted sum of the losses at a time, "
                f"so that {shown(other)} has nothing to {purpose}; choose one of them"
            )


def _check_learning(method: Parts) -> None:
    """A bilevel loop trains the weights of one part, and such weights are trained by no other loop."""
    learning = [part for part in (method.objective, method.balancer) if part.bilevel]
    if method.loop.bilevel and len(learning) != 1:
        raise UserError(
            f"{shown(method.name)}: a bilevel loop trains the weights of one part, and here "
            f"{len(learning)} learn any; give it one, e.g. method('auto-lambda')"
        )
    if learning and not method.loop.bilevel:
        raise UserError(
            f"{shown(method.name)}: {type(learning[0]).__name__} learns weights in a bilevel loop, and the "
            "loop is another one; give `Bilevel()` as the loop, or another part"
        )


def _check_regime(method: Parts) -> None:
    """A regime may train each exit alone, and the backbone before anything changes what it computes."""
    regime = shown(method.bringer(method.regime))
    for axis in method.regime.idle:
        if axis in method.axes or (axis == "objective" and method.objective.weights is not None):
            other = method.forks[0] if axis == "fork" else method.parts[axis]
            idle = shown(method.bringer(other)) if axis in method.axes else "weights"
            raise UserError(
                f"{shown(method.name)}: {regime} {method.regime.idle_since}, so that {idle} would have "
                "nothing to do; choose one of them"
            )
    if method.regime.plain_first and method.lasting:
        raise UserError(
            f"{shown(method.name)}: {regime} trains the backbone first, as it is, and it would be another "
            "network afterwards; choose one of them"
        )


def _check_rotation(method: Parts, rotation: Rotation) -> None:
    """One backward pass brings a rotation all gradients, and no other rule scales them."""
    others: list[Any] = [rule for rule in method.forks if rule is not rotation]
    others += [method.parts[axis] for axis in ("combiner", "loop") if axis in method.axes]
    others += [method.balancer] if "graph" in method.balancer.needs else []
    if others:
        one, other = map(method.bringer, (rotation, others[0]))
        raise UserError(
            f"{shown(method.name)}: {shown(one)} settles how all gradients at a fork are weighed in one "
            f"backward pass, so that {shown(other)} cannot; choose one of them"
        )
