"""Plain text tables: aligned columns, nothing a log file could choke on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

__all__ = ["WIDTH", "aligned", "count", "folded", "four_digits", "signed"]

WIDTH = 100  # columns of a page


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table with a rule under its header; the first ``left`` columns flush left, the others flush right.

    The cells of the header may have several lines, which end above the rule.
    """
    lines = [cell.split("\n") for cell in header]
    depth = max(map(len, lines))
    heads = [*zip(*([""] * (depth - len(cell)) + cell for cell in lines), strict=True)]
    table = [*map(list, heads), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([*map(line, table[:depth]), rule, *map(line, table[depth:])])


def folded(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = WIDTH) -> str:
    """A table; where it is too wide, several under each other, each with the first column again.

    Columns whose headers have the same first line stay together where a page is wide enough for them. A
    column that has nothing to say is left out, and so is a row of a page.
    """
    told = [at for at in range(len(header)) if not at or any(row[at] for row in rows)]
    header, rows = [header[at] for at in told], [[row[at] for at in told] for row in rows]
    table = [header, *rows]
    widths = [
        max(len(part) for row in table for part in row[at].split("\n")) + 2 for at in range(len(header))
    ]
    groups = [[*group] for _, group in groupby(range(1, len(header)), lambda at: header[at].split("\n")[0])]
    room = width - widths[0] + 2
    blocks = [
        block
        for group in groups
        for block in ([group] if sum(widths[at] for at in group) <= room else [[at] for at in group])
    ]
    pages: list[list[int]] = []
    for block in blocks:
        if pages and sum(widths[at] for at in pages[-1] + block) <= room:
            pages[-1] += block
        else:
            pages.append(block)
    return "\n\n".join(
        aligned(
            [header[at] for at in (0, *page)],
            [[row[at] for at in (0, *page)] for row in rows if any(row[at] for at in page)],
        )
        for page in pages
    )


def count(number: float | None) -> str:
    """A raw count to three digits: ``912``, ``45.6k``, ``1.23M``, ``15.4G``; ``unknown`` for None."""
    if number is None:
        return "unknown"
    units = ["", "k", "M", "G", "T"]
    while abs(number) >= 999.5 and len(units) > 1:
        number /= 1000
        units.pop(0)
    decimals = 0 if units[0] == "" or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{decimals}f}{units[0]}"


def signed(number: float, decimals: int = 2) -> str:
    """A number with its sign, ``-0.05`` or ``+1.30``; one that is rounded to zero has none: ``0.00``."""
    text = f"{number:+.{decimals}f}"
    return text if float(text) else text[1:]


def four_digits(number: float) -> int:
    """How many decimals show four digits of a number: 4 of 0.6754, 2 of 25.01; always from 2 to 6."""
    size = math.floor(math.log10(abs(number))) if number and math.isfinite(number) else 1
    return min(6, max(2, 3 - size))
