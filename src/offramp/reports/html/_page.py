"""The page itself: its template filled in, with style, script and drawing code inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from offramp.plain_json import plain_json
from offramp.reports.html._charts import CONFIG
from offramp.reports.html._library import drawing_code
from offramp.reports.html._parts import Chart, Section

__all__ = ["MARK", "Page", "page"]

MARK = "<!doctype html>\n<!-- offramp report -->"  # by which a page of this kind is known
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """Everything that a page says.

    Attributes:
        title: Its heading.
        facts: Name and value of what is told below the heading.
        sections: The chapters.
        reload: Seconds after which a browser loads it again; None: never.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    reload: int | None = None


def page(content: Page) -> str:
    """The HTML of a page.

    Whatever comes from a user is escaped: text by the template engine, data as JSON without ``<``. On top of
    that the page forbids the browser to load anything, and to run any script but its own two.
    """
    code, script = drawing_code(), _file("page.js")
    ids = {id(chart): f"chart-{number}" for number, chart in enumerate(_charts(content.sections))}
    charts = {
        f"{ids[id(chart)]}-{number}": spec
        for chart in _charts(content.sections)
        for number, (_, spec) in enumerate(chart.panels)
    }
    sliders = [
        {"cells": part.cells, "charts": part.charts}
        for section in content.sections
        for part in section.parts
        if part.template == "slider"
    ]
    return str(
        _template().render(
            mark=MARK,
            page=content,
            chart_id=lambda chart: ids[id(chart)],
            style=_file("page.css"),
            code=code,
            script=script,
            hashes=[_hash(code), _hash(script)],
            data={"config": CONFIG, "charts": charts, "sliders": sliders},
        )
    )


def _charts(sections: Sequence[Section]) -> list[Chart]:
    return [part for section in sections for part in section.parts if isinstance(part, Chart)]


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_function"] = plain_json  # NaN is null; tojson escapes what ends a script
    templates.policies["json.dumps_kwargs"] = {"indent": None}
    return templates.get_template("page.html")


@cache
def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """A script's digest, by which the page's policy lets it run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
