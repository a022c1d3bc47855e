"""Charts as Vega-Lite specifications, whose colours are the page's own: they follow light, dark and print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from offramp.reports.html._parts import Key

__all__ = [
    "CONFIG",
    "CURRENT",
    "categories",
    "dashes_of",
    "exit_colour",
    "keys_of",
    "lines",
    "quantity",
    "rings_of",
    "scale_of",
    "spec",
]

COLOURS = 8  # of page.css, told apart by colour-blind readers; beyond, lines are dashed
DASHES = ([1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [14, 4], [1, 5], [8, 3, 2, 3, 2, 3], [4, 7])
FEW = 8  # whole numbers, each of which gets a tick
CURRENT = "now"  # name of the data that the slider replaces

CONFIG: Mapping[str, Any] = {
    "background": None,
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--quiet)", "titleColor": "var(--quiet)", "titleFontWeight": "normal",
        "labelFontSize": 11, "titleFontSize": 11, "titlePadding": 8, "labelPadding": 5,
        "gridColor": "var(--line)", "domain": False, "ticks": False, "tickCount": 5,
    },
    "axisX": {"grid": False, "domain": True, "domainColor": "var(--rule)"},
    "line": {"strokeWidth": 2, "strokeJoin": "round", "strokeCap": "round"},
    "rule": {"color": "var(--rule)"},
    "text": {"color": "var(--ink)"},
}  # fmt: skip


def spec(values: Iterable[Mapping[str, Any]], height: int, **rest: Any) -> dict[str, Any]:
    """A chart as wide as the page lets it be.

    Args:
        values: The data.
        height: In pixels.
        rest: Marks, encodings, layers.
    """
    return {"width": "container", "height": height, "data": {"values": [*values]}, **rest}


def quantity(field: str, title: str | None, **scale: Any) -> dict[str, Any]:
    """A numeric axis, which need not begin at 0."""
    scale = {"zero": False, "nice": True, **scale}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


def categories(field: str, order: Sequence[str], title: str | None) -> dict[str, Any]:
    """An axis of names, in their order."""
    axis = {"labelAngle": 0, "labelLimit": 90, "labelOverlap": True}
    return {"field": field, "type": "nominal", "title": title, "sort": [*order], "axis": axis}


def keys_of(labels: Sequence[str]) -> list[Key]:
    """A colour and a pattern of dashes for each of the labels."""
    keys = []
    for number, label in enumerate(labels):
        dash = DASHES[number // COLOURS % len(DASHES)]
        pattern = " ".join(map(str, dash)) if number >= COLOURS else ""
        keys.append(Key(label, f"var(--series-{number % COLOURS})", pattern))
    return keys


def exit_colour(number: int, exits: int) -> str:
    """The colour of an exit (from 1): from that of shallow exits to that of deep ones."""
    share = round(100 * (number - 1) / max(1, exits - 1))
    return f"color-mix(in oklch, var(--shallow) {100 - share}%, var(--deep))"


def scale_of(keys: Sequence[Key]) -> dict[str, Any]:
    """Encoding of the field ``of`` by the colours of a legend, which the page itself shows."""
    scale = {"domain": [key.label for key in keys], "range": [key.colour for key in keys]}
    return {"field": "of", "type": "nominal", "scale": scale, "legend": None}


def rings_of(keys: Sequence[Key]) -> dict[str, Any]:
    """Encoding of the field ``of`` by what fills a dot: nothing where the lines of the legend are dashed."""
    ranges = ["var(--page)" if key.dash else key.colour for key in keys]
    scale = {"domain": [key.label for key in keys], "range": ranges}
    return {"field": "of", "type": "nominal", "scale": scale, "legend": None}


def dashes_of(keys: Sequence[Key]) -> dict[str, Any]:
    """Encoding of the field ``of`` by the dashes of a legend."""
    ranges = [[*map(int, key.dash.split())] or [1, 0] for key in keys]
    scale = {"domain": [key.label for key in keys], "range": ranges}
    return {"field": "of", "type": "nominal", "scale": scale, "legend": None}


def lines(
    values: Sequence[Mapping[str, Any]], keys: Sequence[Key], x: str, y: str | None, *, height: int = 170
) -> dict[str, Any]:
    """Lines of ``y`` against ``x``, one for each ``of``, with a band from ``low`` to ``high`` where known.

    Args:
        values: With the fields ``x``, ``y``, ``of``; ``low`` and ``high`` of some.
        keys: The legend.
        x: Title of that axis.
        y: Title of that axis.
        height: In pixels.
    """
    tooltip = [
        {"field": "of", "title": " "},
        {"field": "x", "title": x},
        {"field": "y", "title": y or "value", "format": ".4~g"},
    ]
    across = quantity("x", x, nice=False)
    numbers = sorted({value["x"] for value in values})
    across["axis"] = {"format": "d"} | ({"values": numbers} if len(numbers) <= FEW else {})
    seen = {"value": 0, "condition": {"test": "datum.single", "value": 1}}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "line"}, "encoding": {"strokeDash": dashes_of(keys)}},
        {"mark": {"type": "point", "filled": True, "size": 60, "tooltip": True},
         "encoding": {"tooltip": tooltip, "opacity": seen}},
    ]  # fmt: skip
    if any("low" in value for value in values):
        band = {"y": {"field": "low", "type": "quantitative", "title": y}, "y2": {"field": "high"}}
        layers.insert(0, {"mark": {"type": "area", "opacity": 0.15}, "encoding": band})
    shared = {"x": across, "y": quantity("y", y), "color": scale_of(keys)}
    return spec([*_singles_marked(values)], height, layer=layers, encoding=shared)


def _singles_marked(values: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The values; those without a neighbour on their line, which draws nothing of them, with ``single``."""
    ends = {"of": None, "y": None}
    for before, value, after in zip([ends, *values], values, [*values[1:], ends], strict=False):
        joined = any(each["of"] == value["of"] and each["y"] is not None for each in (before, after))
        yield value if joined or value["y"] is None else {**value, "single": True}
