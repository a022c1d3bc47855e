"""The grammar of a method: a part for each of six axes, chosen independently."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn

from offramp.checks import count_of, flag, of_kind
from offramp.errors import UserError, guess, shown
from offramp.forks import Rule
from offramp.methods._check_parts import check_parts
from offramp.methods._handed_over import unwrap
from offramp.methods._options import Options
from offramp.methods._own_loop import OwnLoopMethod
from offramp.methods._put_forks import put_forks
from offramp.methods.balancers import Balancer, Equal
from offramp.methods.combiners import Combiner, Sum
from offramp.methods.loops import Loop, Minibatch
from offramp.methods.objectives import Objective, TaskLoss
from offramp.methods.passes import EACH, Passes
from offramp.methods.regimes import OnePeriod, Regime
from offramp.nets import Net, Separate
from offramp.tasks.outputs import are_exits
from offramp.unchanged import restored_on_error

__all__ = ["AXES", "Method"]

# axis -> its plain part, in the order in which data meets them; forks are a product of any number of rules
AXES: dict[str, Any] = {
    "fork": (),
    "objective": TaskLoss(),
    "balancer": Equal(),
    "combiner": Sum(),
    "loop": Minibatch(),
    "regime": OnePeriod(),
}
KINDS = {
    "objective": Objective,
    "balancer": Balancer,
    "combiner": Combiner,
    "loop": Loop,
    "regime": Regime,
}


@dataclass(frozen=True)
class Method:
    """One row of the table: a part for each axis on which it is not plain.

    The fields of the parts are the method's options. One has a qualified name, ``kd.alpha``
    (:class:`~offramp.methods._options.Options`), and the field alone is its name where no other part has such
    a field.

    Attributes:
        name: What the command line calls it.
        summary: One line.
        paper: Where it comes from.
        parts: Axis -> part; what is left out is plain (:data:`AXES`). ``fork``: what crosses a fork, a rule,
            or a tuple of rules whose gains multiply. ``objective``: a step's outputs -> K losses.
            ``balancer``: K losses -> K weighted losses. ``combiner``: K losses -> gradients. ``loop``: how an
            epoch is organised. ``regime``: which losses there are and what is trained, period by period.
        separate: Train one network per exit instead.
        rows: Class of a part -> name of the row that brings it; by default this one, if it brings one part.

    Raises:
        UserError: No such axis, a part of another axis, or one that leaves another nothing to do.
    """

    name: str
    summary: str
    paper: str
    parts: Mapping[str, Any] = field(default_factory=dict)
    separate: bool = False
    rows: Mapping[type, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for key in ("name", "summary", "paper"):
            of_kind(key, getattr(self, key), str, "a text")
        for key in ("parts", "rows"):
            of_kind(key, getattr(self, key), Mapping, "a mapping")
        flag("separate", self.separate)
        for axis in self.parts:
            if axis not in AXES:
                raise UserError(
                    f"method {shown(self.name)}: no axis {shown(axis)}{guess(axis, AXES)}; there are: "
                    f"{', '.join(AXES)}"
                )
        parts = AXES | dict(self.parts)
        object.__setattr__(self, "parts", parts | {"fork": _members(parts["fork"])})
        for axis, part in self.parts.items():
            kind = KINDS.get(axis)
            if not (isinstance(part, kind) if kind else all(hasattr(rule, "gains") for rule in part)):
                raise UserError(
                    f"method {shown(self.name)}: {shown(part)} is no {axis}; give it on the axis it belongs "
                    "to"
                )
        brought = [type(part) for axis, part in self._placed if axis in self.axes]
        if not self.rows and len(brought) == 1:
            object.__setattr__(self, "rows", {brought[0]: self.name})
        check_parts(self)

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
    def regime(self) -> Regime:
        """Which losses there are and what is trained, period by period."""
        return cast("Regime", self.parts["regime"])

    @property
    def plain(self) -> Method:
        """Joint training under the method's name, for a period in which the method's parts are not used."""
        return Method(self.name, self.summary, self.paper)

    @property
    def _placed(self) -> list[tuple[str, Any]]:
        """Every part with its axis."""
        return [(axis, member) for axis, part in self.parts.items() for member in _members(part)]

    @property
    def axes(self) -> dict[str, str]:
        """What the method chooses, axis by axis; plain choices are left out."""
        kinds = {axis: [type(member) for member in _members(part)] for axis, part in self.parts.items()}
        axes = {
            axis: " x ".join(kind.__name__ for kind in chosen)
            for axis, chosen in kinds.items()
            if chosen != [type(member) for member in _members(AXES[axis])]
        }
        return axes | ({"net": Separate.__name__} if self.separate else {})

    # what follows from them

    @property
    def needs(self) -> frozenset[str]:
        """Needs of the parts: ``losses``, ``gramian`` or ``rows``; and more that a step may bring."""
        return self.objective.needs | self.balancer.needs | self.combiner.needs

    @property
    def passes(self) -> Passes:
        """Cost of a step, or of a loop's epoch, in passes of joint training; averaged over periods."""
        return self.regime.passes(self._passes)

    @property
    def _passes(self) -> Passes:
        """Cost in a period in which the method's parts are at work."""
        if self.separate:
            return Passes(EACH, EACH)
        return self.loop.passes or self.combiner.passes + self.balancer.passes

    def passes_of(self, outputs: Iterable[str]) -> Passes:
        """What a step costs a net with outputs of these names: exits, or tasks, which need the whole net."""
        return self.passes if are_exits(outputs) else self.passes.of_tasks()

    def joint_epochs(self, outputs: Collection[str], epochs: int) -> float:
        """Cost of a training in epochs of joint training, which go over every training sample.

        Args:
            outputs: The names of the net's outputs.
            epochs: How many there are, each over the samples that the method does not hold out.
        """
        return epochs * (1 - self.loop.held_out) * self.passes_of(outputs).joint(len(outputs))

    def joint_steps(self, outputs: Iterable[str], shares: Sequence[tuple[float, int]]) -> float:
        """Cost of a step, or an epoch over its batches, in those of joint training on the same samples.

        It is one of a period in which the method's parts are at work.

        Args:
            outputs: The names of the net's outputs.
            shares: For each data set its share of the samples, and how many outputs have targets in it. Where
                gradients are taken output by output, each goes back through its own set's samples alone.
        """
        passes = self._passes if are_exits(outputs) else self._passes.of_tasks()
        if self.separate or self.loop.passes is not None:  # each output's turn has samples of all sets
            return passes.joint(sum(count for _, count in shares))
        return sum(share * passes.joint(count) for share, count in shares)

    @property
    def reads_epochs(self) -> tuple[str, ...]:
        """Which parts or options depend on the number of epochs, so that no run with them can be extended."""
        return tuple(reader for axis in AXES if axis != "fork" for reader in self.parts[axis].reads_epochs)

    @property
    def whole_batch(self) -> list[str]:
        """Why no batch can be cut into micro-batches, part by part; empty where one can."""
        reasons = [self.parts[axis].whole_batch for axis in AXES if axis not in ("fork", "regime")]
        reasons += [getattr(rule, "whole_batch", "") for rule in self.forks]
        return [reason for reason in reasons if reason]

    @property
    def lasting(self) -> bool:
        """Whether the trained net is not the plain one: several nets, new heads, forks that change values."""
        return (
            self.separate
            or self.regime.lasting
            or any(getattr(rule, "reference", "on") != "on" for rule in self.forks)
        )

    # options

    def bringer(self, part: Any) -> str:
        """The name of a part in messages and options: that of the method it comes from, or its class."""
        return self._options.bringer(part)

    @property
    def _options(self) -> Options:
        return Options(self.name, [part for _, part in self._placed], self.rows)

    @property
    def options(self) -> dict[str, Any]:
        """The method's options and their values, by their short names where these mean one option only."""
        return self._options.values

    @property
    def option_fields(self) -> dict[str, tuple[type, str]]:
        """Option -> the class of the part that has it, whose docstring describes it, and its field there."""
        return {name: (type(part), field) for name, (part, field) in self._options.short.items()}

    def named(self, key: str) -> list[str]:
        """Qualified names of the options that a name may mean: none, one, or several if it is ambiguous."""
        return self._options.named(key)

    def with_options(self, options: Mapping[str, Any]) -> Method:
        """A copy of the method with other values of options.

        Args:
            options: Name of an option, short or qualified, -> value. Of two names for one option the later
                counts, as settings on the command line follow those of a recipe.

        Raises:
            UserError: No such option, a short name that several parts have, or a value out of range.
        """
        changes = self._options.changes(options)

        def changed(part: Any) -> Any:
            if isinstance(part, tuple):
                return tuple(map(changed, part))
            return dataclasses.replace(part, **changes[type(part)]) if type(part) in changes else part

        return dataclasses.replace(self, parts={axis: changed(part) for axis, part in self.parts.items()})

    # at work

    def bind(self, net: nn.Module, seed: int = 0) -> OwnLoopMethod:
        """Bind the method to a net, to train it in a loop of your own.

        The method's forks are installed on the net, in place; :func:`offramp.remove` takes them off again.

        Args:
            net: A net with exits, or of your own with ``outputs``, ``forward`` and ``owners``; it may be
                compiled, or wrapped for data parallelism. On the device that it will be trained on.
            seed: Of what the method draws by itself; equal on all processes.

        Returns:
            The method at work: ``losses``, ``backward``, and parameters of its own for the optimiser.

        Raises:
            UserError: The method trains no step by itself, or does not fit the net.
        """
        count_of("seed", seed, 0)
        ways = {
            "trains one network per output": self.separate,
            self.loop.in_words: not isinstance(self.loop, Minibatch),
            "trains in periods with parameters of their own": not isinstance(self.regime, OnePeriod),
        }
        if any(ways.values()):
            way = next(way for way, taken in ways.items() if taken)
            raise UserError(
                f"{shown(self.name)} {way}, which one loop over batches cannot do; "
                f"use offramp.fit(net, data, method={shown(self.name)})"
            )
        if self.balancer.looks_back:
            raise UserError(
                f"{shown(self.name)} looks at a batch's losses once more after the optimiser's step, which a "
                f"loop of your own takes; use offramp.fit(net, data, method={shown(self.name)})"
            )
        inner, model = unwrap(net)
        with restored_on_error(inner):
            self.prepare(cast("Net", inner))
            return OwnLoopMethod(self, inner, seed, model).to(next(inner.parameters()).device)

    def prepare(self, net: Net, seed: int = 0) -> Net:
        """Put the method's forks and heads on the net, in place; gain forks that are on it already make way.

        Args:
            net: The net.
            seed: Of the weights of heads.

        Returns:
            What is to be trained: the net, or separate copies of its parts.

        Raises:
            UserError: The method has plain forks and the net does not, or forks or regime do not fit the net.
        """
        self.regime.check(net, self.name)
        put_forks(net, self.forks, self.name, separate=self.separate)
        self.regime.prepare(net, self.name, seed)
        return Separate(net) if self.separate else net  # type: ignore[arg-type]


def _members(part: Any) -> tuple[Any, ...]:
    return part if isinstance(part, tuple) else (part,)
