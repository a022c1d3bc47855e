"""The grammar of a method: independent choices, one for each axis, that compose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from offramp.balancers import Balancer, Equal
from offramp.combiners import Combiner, Sum
from offramp.errors import UserError, guess
from offramp.forks import Fork, GainFork, Rule, SliceFork, install, remove
from offramp.loops import Loop, Minibatch
from offramp.nets import MultiExitNet, Net, Separate
from offramp.objectives import CrossEntropy, Objective
from offramp.passes import K, Passes

__all__ = ["AXES", "Method", "compose"]

# axis -> its plain part, in the order in which data meets them; forks are a product of any number of rules
AXES: dict[str, Any] = {
    "fork": (),
    "objective": CrossEntropy(),
    "balancer": Equal(),
    "combiner": Sum(),
    "loop": Minibatch(),
}


@dataclass(frozen=True)
class Method:
    """One row of the table: a part for each axis on which it is not plain.

    The fields of the parts are the method's options. The qualified name of one is the name of the row that
    brings the part, a dot and the field: ``kd.alpha``. A plain part, and each part of a row that brings
    several, goes by its class's name in lower case instead: ``crossentropy.weights``. The field alone is the
    option's name where no other part has such a field.

    Attributes:
        name: What the command line calls it.
        summary: One line.
        paper: Where it comes from.
        parts: Axis -> part; what is left out is plain (:data:`AXES`). ``fork``: what crosses a fork, a rule,
            or a tuple of rules whose gains multiply. ``objective``: a step's outputs -> K losses.
            ``balancer``: K losses -> K weighted losses. ``combiner``: K losses -> gradients. ``loop``: how an
            epoch is organised.
        separate: Train one network per exit instead.
        rows: Class of a part -> name of the row that brings it.

    Raises:
        UserError: No such axis, or a part that leaves another one without anything to do.
    """

    name: str
    summary: str
    paper: str
    parts: Mapping[str, Any] = field(default_factory=dict)
    separate: bool = False
    rows: Mapping[type, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for axis in self.parts:
            if axis not in AXES:
                raise UserError(
                    f"method {self.name!r}: no axis {axis!r}{guess(axis, AXES)}; there are: {', '.join(AXES)}"
                )
        parts = AXES | dict(self.parts)
        object.__setattr__(self, "parts", parts | {"fork": _members(parts["fork"])})
        brought = [type(part) for axis, part in self._placed if axis in self.axes]
        if not self.rows and len(brought) == 1:
            object.__setattr__(self, "rows", {brought[0]: self.name})
        self._check_parts()

    def _check_parts(self) -> None:
        """Whether each part leaves the others something to do."""
        for axis, purpose in (("balancer", "balance"), ("combiner", "combine")):
            if self.loop.own_backward and axis in self.axes:
                loop, other = (self._row_of(part) for part in (self.loop, self.parts[axis]))
                raise UserError(
                    f"{self.name!r}: {loop!r} descends one weighted sum of the losses at a time, "
                    f"so that {other!r} has nothing to {purpose}; choose one of them"
                )
        if self.balancer.undoes_weights and self.objective.weights is not None:
            raise UserError(
                f"method {self.name!r}: {self._row_of(self.balancer)!r} learns weights of the losses, "
                "which undo fixed ones; leave weights out"
            )

    # the parts

    @property
    def forks(self) -> tuple[Rule, ...]:
        """Rules of what crosses a fork; none is the plain fork."""
        return cast("tuple[Rule, ...]", self.parts["fork"])

    @property
    def objective(self) -> Objective:
        """What turns a step's outputs into K losses."""
        return cast("Objective", self.parts["objective"])

    @property
    def balancer(self) -> Balancer:
        """What weighs the K losses."""
        return cast("Balancer", self.parts["balancer"])

    @property
    def combiner(self) -> Combiner:
        """What turns K losses into gradients."""
        return cast("Combiner", self.parts["combiner"])

    @property
    def loop(self) -> Loop:
        """How an epoch is organised."""
        return cast("Loop", self.parts["loop"])

    @property
    def _placed(self) -> list[tuple[str, Any]]:
        """Every part with its axis."""
        return [(axis, one) for axis, part in self.parts.items() for one in _members(part)]

    @property
    def axes(self) -> dict[str, str]:
        """What the method chooses, axis by axis; plain choices are left out."""
        kinds = {axis: [type(one) for one in _members(part)] for axis, part in self.parts.items()}
        chosen = {
            axis: " x ".join(kind.__name__ for kind in found)
            for axis, found in kinds.items()
            if found != [type(one) for one in _members(AXES[axis])]
        }
        return chosen | ({"net": Separate.__name__} if self.separate else {})

    # what follows from them

    @property
    def needs(self) -> frozenset[str]:
        """What it works on: ``losses``, ``gramian`` or ``rows``; ``features`` and ``trunk`` of a step."""
        return self.objective.needs | self.balancer.needs | self.combiner.needs

    @property
    def passes(self) -> Passes:
        """What a step costs, or an epoch over its batches, in passes of joint training."""
        if self.separate:
            return Passes((K + 1) / 2, (K + 1) / 2)
        return self.loop.passes or self.combiner.passes

    @property
    def reads_epochs(self) -> tuple[str, ...]:
        """What of it depends on how many epochs there will be, so that no run with it can be extended."""
        return self.objective.reads_epochs + self.balancer.reads_epochs + self.loop.reads_epochs

    @property
    def lasting(self) -> bool:
        """Whether the trained net is not the plain one: other forks that change values, or several nets."""
        return self.separate or any(getattr(rule, "reference", "on") != "on" for rule in self.forks)

    # options

    def _row_of(self, part: Any) -> str:
        return self.rows.get(type(part), type(part).__name__.lower())

    @property
    def _fields(self) -> dict[str, tuple[Any, str]]:
        """Qualified name of each option -> its part and the part's field."""
        return {
            f"{self._row_of(part)}.{one.name}": (part, one.name)
            for _, part in self._placed
            for one in dataclasses.fields(part)
        }

    def named(self, key: str) -> list[str]:
        """Qualified names of the options that a name may mean: none, one, or several if it is ambiguous."""
        known = self._fields
        return [key] if key in known else [name for name, (_, field) in known.items() if field == key]

    @property
    def options(self) -> dict[str, Any]:
        """The method's options and their values, by their short names where these mean one option only."""
        found = {}
        for name, (part, key) in self._fields.items():
            short = len(self.named(key)) == 1
            found[key if short else name] = dataclasses.asdict(part)[key]
        return found

    def with_options(self, options: Mapping[str, Any]) -> Method:
        """The same method with other values of options.

        Args:
            options: Name of an option, short or qualified, -> value. Of two names for one option the later
                counts, as settings on the command line follow those of a recipe.

        Raises:
            UserError: No such option, a short name that several parts have, or a value out of range.
        """
        changes: dict[type, dict[str, Any]] = {}
        for key, value in options.items():
            part, name = self._fields[self._one(key)]
            changes.setdefault(type(part), {})[name] = value

        def changed(part: Any) -> Any:
            if isinstance(part, tuple):
                return tuple(map(changed, part))
            return dataclasses.replace(part, **changes[type(part)]) if type(part) in changes else part

        parts = {axis: changed(part) for axis, part in self.parts.items()}
        return dataclasses.replace(self, parts=parts)

    def _one(self, key: str) -> str:
        """The qualified name of the one option that a name means."""
        found = self.named(key)
        if not found:
            known = ", ".join(self.options)
            raise UserError(
                f"method {self.name!r} has no option {key!r}{guess(key, self.options)}; it has: {known}"
            )
        if len(found) > 1:
            raise UserError(
                f"method {self.name!r}: several of its parts have an option {key!r}; "
                f"say which: {' or '.join(found)}"
            )
        return found[0]

    # at work

    def prepare(self, net: MultiExitNet) -> Net:
        """Install the method's forks on the net, in place; gain forks that are on it already make way.

        Returns:
            What is to be trained: the net, or separate copies of its parts.

        Raises:
            UserError: The method has plain forks and the net does not, or the forks do not fit the net.
        """
        if self.forks:
            if any(isinstance(fork, GainFork) for fork in net.forks):
                remove(net)
            install(net, self.forks)
        elif any(type(fork) not in (Fork, SliceFork) for fork in net.forks):
            raise UserError(
                f"method {self.name!r} trains plain forks, and this net's are not; "
                "take them off first with offramp.forks.remove(net)"
            )
        return Separate(net) if self.separate else net


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


def _members(part: Any) -> tuple[Any, ...]:
    return part if isinstance(part, tuple) else (part,)
