"""Plain text tables: aligned columns, nothing a log file could choke on."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["aligned", "count", "signed"]


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table with a rule under its header; the first ``left`` columns flush left, the others flush right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(table[0]), "  ".join("-" * width for width in widths), *map(line, table[1:])])


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
