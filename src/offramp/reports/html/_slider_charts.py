"""The charts that follow the slider over the thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offramp.reports.html._charts import CURRENT, dashes_of, exit_colour, quantity, scale_of, spec
from offramp.reports.html._parts import Key

__all__ = ["accuracy_chart", "exits_chart"]

Values = Sequence[Mapping[str, Any]]


def accuracy_chart(lines: Values, alone: Values, now: Values, keys: Sequence[Key]) -> dict[str, Any]:
    """Accuracy against operations.

    Args:
        lines: The points of the curves, by ``of`` and ``p``.
        alone: Each exit by itself.
        now: Where the slider stands.
        keys: The legend.
    """
    tooltip = [
        {"field": "of", "title": " "},
        {"field": "y", "title": "right %", "format": ".2f"},
        {"field": "x", "title": "of the whole %", "format": ".1f"},
        {"field": "operations"},
    ]
    layer = [
        {"mark": {"type": "line"},
         "encoding": {"strokeDash": dashes_of(keys), "order": {"field": "p", "type": "quantitative"}}},
        {"data": {"values": [*alone]},
         "mark": {"type": "point", "shape": "square", "size": 40, "filled": False, "strokeWidth": 1.5},
         "encoding": {"tooltip": [{"field": "exit", "title": "all leave at exit"}, *tooltip]}},
        {"data": {"name": CURRENT, "values": [*now]},
         "mark": {"type": "point", "filled": True, "size": 170, "opacity": 1, "stroke": "var(--page)",
                  "strokeWidth": 2},
         "encoding": {"tooltip": tooltip}},
    ]  # fmt: skip
    shared = {
        "x": quantity("x", "operations, % of the whole network"),
        "y": quantity("y", "right, % of the test samples"),
        "color": scale_of(keys),
    }
    return spec(lines, 320, layer=layer, encoding=shared)


def exits_chart(labels: Sequence[str], exits: int, now: Values) -> dict[str, Any]:
    """A bar for each method, below its name, of the shares of its exits where the slider stands."""
    numbers = [*range(1, exits + 1)]
    colours = [exit_colour(number, exits) for number in numbers]
    several = len(labels) > 1
    bars = {
        "mark": {"type": "bar", "height": {"band": 0.45 if several else 0.75}, "yOffset": 8 if several else 0,
                 "stroke": "var(--page)"},
        "encoding": {
            "x": {"field": "share", "type": "quantitative", "title": "% of the samples",
                  "scale": {"domain": [0, 100]}, "stack": "zero"},
            "order": {"field": "exit", "type": "ordinal"},
            "color": {"field": "exit", "type": "ordinal", "legend": None,
                      "scale": {"domain": numbers, "range": colours}},
            "tooltip": [{"field": "of", "title": " "}, {"field": "exit"},
                        {"field": "share", "title": "%", "format": ".1f"}],
        },
    }  # fmt: skip
    names = {
        "transform": [{"filter": "datum.exit == 1"}],
        "mark": {"type": "text", "align": "left", "dy": -12, "limit": {"expr": "width"}, "fontSize": 11},
        "encoding": {"x": {"datum": 0}, "text": {"field": "of"}},
    }
    rows = {"y": {"field": "of", "type": "nominal", "sort": [*labels], "axis": None}}
    chart = spec([], (44 if several else 34) * len(labels), encoding=rows, layer=[bars, names][: 1 + several])
    return chart | {"data": {"name": CURRENT, "values": [*now]}}
