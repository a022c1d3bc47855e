"""The grammar of a method: independent choices, one per axis, that compose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from offramp.combiners import Combiner, Sum
from offramp.errors import UserError, guess
from offramp.forks import Fork, GainFork, Rule, SliceFork, install, remove
from offramp.loops import Loop, Minibatch
from offramp.nets import MultiExitNet, Net, Separate
from offramp.objectives import CrossEntropy, Objective
from offramp.passes import K, Passes

__all__ = ["Method", "compose"]


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: What the command line calls it.
        summary: One line.
        paper: Where it comes from.
        forks: What crosses a fork; the gains of several multiply. None: the plain fork.
        objective: A step's outputs -> K losses.
        combiner: K losses -> gradients.
        loop: How an epoch is organised.
        separate: Train one network per exit instead.
    """

    name: str
    summary: str
    paper: str
    forks: tuple[Rule, ...] = ()
    objective: Objective = field(default_factory=CrossEntropy)
    combiner: Combiner = field(default_factory=Sum)
    loop: Loop = field(default_factory=Minibatch)
    separate: bool = False

    @property
    def axes(self) -> dict[str, str]:
        """What the method chooses, axis by axis; plain choices are left out."""
        chosen: dict[str, str] = {}
        if self.forks:
            chosen["fork"] = " x ".join(type(rule).__name__ for rule in self.forks)
        if type(self.objective) is not CrossEntropy:
            chosen["objective"] = type(self.objective).__name__
        if type(self.combiner) is not Sum:
            chosen["combiner"] = type(self.combiner).__name__
        if type(self.loop) is not Minibatch:
            chosen["loop"] = type(self.loop).__name__
        if self.separate:
            chosen["net"] = Separate.__name__
        return chosen

    @property
    def needs(self) -> frozenset[str]:
        """What it works on: ``losses``, ``gramian`` or ``rows``; ``features`` and ``trunk`` of a step."""
        return self.objective.needs | self.combiner.needs

    @property
    def passes(self) -> Passes:
        """What a step costs, or an epoch over its batches, in passes of joint training."""
        if self.separate:
            return Passes((K + 1) / 2, (K + 1) / 2)
        return self.loop.passes or self.combiner.passes

    @property
    def reads_epochs(self) -> tuple[str, ...]:
        """What of it depends on how many epochs there will be, so that no run with it can be extended."""
        return (*self.objective.reads_epochs, *self.loop.reads_epochs)

    @property
    def options(self) -> dict[str, Any]:
        """The method's options and their values: the fields of its parts."""
        return {key: value for part in self._parts for key, value in dataclasses.asdict(part).items()}

    def with_options(self, options: Mapping[str, Any]) -> Method:
        """The same with other options; one goes to every part that has it.

        Raises:
            UserError: No such option, or a value out of range.
        """
        for key in options:
            if key not in self.options:
                known = ", ".join(self.options)
                raise UserError(
                    f"method {self.name!r} has no option {key!r}{guess(key, self.options)}; it has: {known}"
                )

        def changed(part: Any) -> Any:
            mine = {key: value for key, value in options.items() if key in dataclasses.asdict(part)}
            return dataclasses.replace(part, **mine) if mine else part

        return dataclasses.replace(
            self,
            forks=tuple(map(changed, self.forks)),
            objective=changed(self.objective),
            combiner=changed(self.combiner),
            loop=changed(self.loop),
        )

    @property
    def _parts(self) -> tuple[Any, ...]:
        return (*self.forks, self.objective, self.combiner, self.loop)

    @property
    def lasting(self) -> bool:
        """Whether the trained net is not the plain one: other forks that change values, or several nets."""
        return self.separate or any(getattr(rule, "reference", "on") != "on" for rule in self.forks)

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
    """Several methods as one: forks multiply; of objective, combiner and loop there can be one each.

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
    chosen = {
        axis: [row.name for row in rows if axis in row.axes] for axis in ("objective", "combiner", "loop")
    }
    for axis, choosing in chosen.items():
        if len(choosing) > 1:
            raise UserError(
                f"{name!r}: {' and '.join(map(repr, choosing))} each bring their own {axis}, "
                f"and {'an epoch' if axis == 'loop' else 'a step'} has one; choose one of them"
            )
    if chosen["loop"] and chosen["combiner"]:
        raise UserError(
            f"{name!r}: {chosen['loop'][0]!r} descends one weighted sum of the losses at a time, "
            f"so that {chosen['combiner'][0]!r} has nothing to combine; choose one of them"
        )
    kinds = [type(rule) for row in rows for rule in row.forks]
    if len(set(kinds)) < len(kinds):
        raise UserError(f"{name!r} names the same fork twice; name it once")
    method = Method(
        name=name,
        summary="; ".join(row.summary for row in rows),
        paper="; ".join(row.paper for row in rows),
        forks=tuple(rule for row in rows for rule in row.forks),
        objective=next((row.objective for row in rows if "objective" in row.axes), CrossEntropy()),
        combiner=next((row.combiner for row in rows if "combiner" in row.axes), Sum()),
        loop=next((row.loop for row in rows if "loop" in row.axes), Minibatch()),
    )
    forks, others = method._parts[: len(method.forks)], method._parts[len(method.forks) :]
    fields = [{option for part in forks for option in dataclasses.asdict(part)}]
    fields += [set(dataclasses.asdict(part)) for part in others]
    for i, some in enumerate(fields):
        for twice in some & set().union(*fields[i + 1 :]):
            raise UserError(
                f"{name!r}: two of its parts have an option {twice!r}, and it can only be set for both"
            )
    return method
