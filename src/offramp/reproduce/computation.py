"""Published figures that no network is trained for: toy problems, and the time of a training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from offramp.checks import path_of
from offramp.errors import UserError
from offramp.methods import Method, method
from offramp.output_paths import checked_path
from offramp.recipes import Recipe
from offramp.recipes.file import setting
from offramp.reproduce._scaling import narrower, parse_scale
from offramp.reproduce._source import Source, source_of
from offramp.reproduce.experiment import Report

__all__ = ["Computation", "ComputationPlan", "computation_plan"]


@dataclass(frozen=True)
class Computation:
    """A published figure that is computed or measured, without a training.

    Attributes:
        name: What users call it, e.g. ``dr-mgf-fig3``.
        source: Paper and number of the figure.
        report: Computes it, from its :class:`ComputationPlan`.
        net: The network, as one word; empty if there is none.
        data: The published set, a key of :data:`~offramp.reproduce.published_sets.SETS`; empty if none is
            read.
        recipe: The shipped recipe by which the data are read.
        methods: Those that are shown, with their options.
        differs: What is known to differ from what was published: a line each.
        kind: ``"figure"``.
    """

    name: str
    source: str
    report: Callable[..., Report]
    net: str = ""
    data: str = ""
    recipe: str = ""
    methods: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    kind: str = "figure"

    @property
    def full_recipe(self) -> Recipe:
        """The recipe by which the data are read."""
        return Recipe.load(self.recipe)

    def method(self, label: str) -> Method:
        """The method of a label: its name, and an option if there is one, ``"dfs beta=0.3"``."""
        name, _, option = label.partition(" ")
        return method(name, dict([setting(option)]) if option else {})


@dataclass(frozen=True)
class ComputationPlan:
    """The plan of such a figure.

    Attributes:
        computation: The figure.
        net: The network at the scale, as one word; empty if there is none.
        scale: Of width, batches and steps.
        source: The data, if it needs some.
        folder: Where picture and numbers go.
    """

    computation: Computation
    net: str
    scale: Fraction
    source: Source | None
    folder: Path

    @property
    def title(self) -> str:
        """What is reproduced, on what data, and at what scale."""
        scale = "" if self.scale == 1 else f", at scale {self.scale}"
        what = f": {self.net} on {self.source.name}" if self.source is not None else ""
        return f"{self.computation.name} ({self.computation.source}){what}{scale}"

    @property
    def differs(self) -> tuple[str, ...]:
        """What differs from what was published, a line each."""
        published = self.computation.net
        return (
            *(() if self.source is None else self.source.differs),
            *([f"network {self.net}, published: {published}"] if self.net != published else []),
            *([f"batches and steps at {self.scale} of their number"] if self.scale != 1 else []),
            *self.computation.differs,
        )

    def notes(self) -> str:
        """What differs, a line each."""
        return "\n".join(f"differs: {line}" for line in self.differs)

    def to_dict(self) -> dict[str, Any]:
        """What is reproduced, as plain values."""
        return {
            "name": self.computation.name,
            "title": self.title,
            "published_data": self.computation.data or None,
            "data": None if self.source is None else self.source.whole.name,
            "stands_in": self.source is not None and self.source.stands_in,
            "scale": str(self.scale),
        }


def computation_plan(
    computation: Computation,
    data: str | None,
    out: str | Path | None,
    *,
    stand_in: str | None,
    scale: object,
    only: Sequence[str],
    seeds: Sequence[int] | None,
) -> ComputationPlan:
    """Plan a figure that nothing is trained for; arguments are those of :func:`offramp.reproduce.plan`.

    Raises:
        UserError: An argument that has no meaning for it, or what :func:`offramp.reproduce.plan` refuses.
    """
    given = {"only": only or None, "seeds": seeds}
    if not computation.data:
        given |= {"data": data, "stand_in": stand_in}
    if meaningless := [f"`{name}=...`" for name, value in given.items() if value is not None]:
        raise UserError(
            f"{computation.name} trains nothing{'' if computation.data else ' and reads no data'}; leave "
            f"{', '.join(meaningless)} out"
        )
    fraction = parse_scale(scale)
    methods = map(computation.method, computation.methods)
    return ComputationPlan(
        computation,
        narrower(computation.net, fraction, methods) if computation.net else "",
        fraction,
        source_of(computation, data, stand_in) if computation.data else None,
        checked_path(Path("runs") / computation.name if out is None else path_of("out", out, "a folder")),
    )
