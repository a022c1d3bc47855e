"""Parts of a page, each with the template that shows it: tables, charts, remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

__all__ = ["Cell", "Chart", "Key", "Legend", "Note", "Section", "Table", "named", "refusals", "with_aside"]


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: What it says.
        tone: ``"better"`` or ``"worse"`` of a difference that is decided; ``"quiet"`` of what matters less.
        colour: Of a swatch before the text, which joins a row to its line in the charts.
        aside: Behind the text, in smaller letters.
        hollow: Whether the swatch is a ring, as of a dashed line.
    """

    text: str
    tone: str = ""
    colour: str = ""
    aside: str = ""
    hollow: bool = False


def with_aside(text: str, tone: str = "") -> Cell:
    """A mean, and behind it what follows its ``±``."""
    mean, sign, rest = text.rstrip().partition(" ± ")
    return Cell(mean, tone, aside=f"± {rest}" if sign else "")


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Attributes:
        title: Its heading.
        header: Of the columns; a line break in one starts its unit.
        rows: Cells or plain texts, as many as there are columns.
        shows: What it shows, in a line.
        left: How many columns, from the first, are words; the others are numbers.
    """

    template: ClassVar[str] = "table"
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    shows: str = ""
    left: int = 1

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, all of cells."""
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]


class Key(NamedTuple):
    """A line of a legend: its words, the colour, and the pattern of dashes."""

    label: str
    colour: str
    dash: str = ""


def named(key: Key) -> Cell:
    """The cell that names the row of a line of the legend."""
    return Cell(key.label, colour=key.colour, hollow=bool(key.dash))


@dataclass(frozen=True)
class Legend:
    """What the colours of the charts below mean.

    Attributes:
        keys: Its lines.
        bars: Whether the charts have bars and no lines.
    """

    template: ClassVar[str] = "legend"
    keys: Sequence[Key]
    bars: bool = False


@dataclass(frozen=True)
class Chart:
    """Panels side by side, drawn in the reader's browser.

    Attributes:
        title: The heading of them all.
        panels: Title of each panel, empty for one alone, and its Vega-Lite specification.
        shows: What they show, in a line.
        name: Where a script finds the only panel; empty where none looks for it.
    """

    template: ClassVar[str] = "chart"
    title: str
    panels: Sequence[tuple[str, Mapping[str, Any]]]
    shows: str = ""
    name: str = ""


@dataclass(frozen=True)
class Note:
    """A remark."""

    template: ClassVar[str] = "note"
    text: str


def refusals(refused: Mapping[str, str], methods: int) -> list[Note]:
    """Why some methods are not shown, by label; in one line where that is the same for all."""
    reasons = {*refused.values()}
    if len(refused) == methods and len(reasons) == 1:
        return [Note(f"nothing to show: {reasons.pop()}")]
    return [Note(f"{label} is not shown: {reason}") for label, reason in refused.items()]


@dataclass(frozen=True)
class Section:
    """A chapter of the page.

    Attributes:
        name: Of its anchor.
        title: Its heading.
        lead: What it is about, in a sentence or two.
        parts: Anything with a ``template``.
    """

    name: str
    title: str
    lead: str
    parts: Sequence[Any]
