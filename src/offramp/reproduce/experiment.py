"""What a published table or figure was trained from, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from offramp.recipes import Recipe

__all__ = ["Experiment", "Report", "Row"]


@dataclass(frozen=True)
class Row:
    """A row of a published table, and how it is trained here.

    Attributes:
        label: What the table calls it, a key of its rows in :mod:`offramp.papers`.
        method: Our name of the method; by default the label.
        settings: Options of the method, and settings of the recipe that this row has of its own.
        net: Its network, where it is another one than the experiment's.
        remark: What is inferred, or differs from what was published; empty if nothing is known to.
        untrained: Why it cannot be trained here; empty if it can.
    """

    label: str
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    net: str = ""
    remark: str = ""
    untrained: str = ""

    @property
    def trained_as(self) -> str:
        """Our name of the method."""
        return self.method or self.label


@dataclass(frozen=True)
class Report:
    """Outcome of a reproduction.

    Attributes:
        document: Plain values, ready for JSON.
        text: For people.
    """

    document: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Experiment:
    """A published table or figure as trainings: a net, a recipe and a row for each method.

    Attributes:
        name: What users call it, e.g. ``dfs-table2``.
        source: Paper and number of the table or figure.
        data: The published set, a key of :data:`~offramp.reproduce.published_sets.SETS`.
        net: The network, as one word.
        recipe: A shipped recipe, by name.
        rows: Its rows, in their published order.
        report: Makes the report from the :class:`~offramp.reproduce.planning.Plan` and the
            :class:`~offramp.sweeps.SweepResult` of its sweep.
        settings: Of the recipe, which this table has of its own.
        seeds: Of each row, as published.
        baseline: Label of the row that the others are compared with; by default joint training.
        differs: What is known to differ from what was published, whatever data and scale: a line each.
        kind: ``"table"`` or ``"figure"``.
        runs: Name of the table whose runs a figure is drawn from, some or all; by default it has its own.
        runs_nets: Whether the report runs the trained nets, so that their weights must be there.
    """

    name: str
    source: str
    data: str
    net: str
    recipe: str
    rows: tuple[Row, ...]
    report: Callable[..., Report]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    baseline: str = ""
    differs: tuple[str, ...] = ()
    kind: str = "table"
    runs: str = ""
    runs_nets: bool = False

    @property
    def full_recipe(self) -> Recipe:
        """The recipe at its published size."""
        return Recipe.load(self.recipe).replace(**self.settings)

    @property
    def nets(self) -> tuple[str, ...]:
        """Its networks, each once, in the order of the rows."""
        return tuple(dict.fromkeys(row.net or self.net for row in self.rows))
