"""A descent on a toy problem as a table, as a file of numbers and as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from offramp.analysis.toys._plot import draw
from offramp.analysis.toys.descent import Descent
from offramp.errors import UserError, shown
from offramp.output_paths import checked_path
from offramp.text_table import aligned

__all__ = ["table", "write"]

PASSES_NOTE = "passes: how often a method looked at both losses"


def table(descent: Descent) -> str:
    """Method by method: the losses, and how far the last point is from the Pareto set."""
    problem, steps = descent.problem, descent.steps[-1]
    optimizer = "Adam" if problem.adam else "gradient descent"
    head = f"problem {problem.name.upper()}: {steps:,} steps of {optimizer} at {descent.rate:g}"
    lines = [f"{head}\n", _landscape(descent) if problem.name == "a" else _coupled(descent)]
    if descent.notes:
        lines += ["", *(f"note: {note}" for note in descent.notes)]
    return "\n".join(lines)


def write(descent: Descent, folder: str | Path) -> tuple[Path, Path]:
    """Write ``toy-a.json`` and ``toy-a.png`` (for B ``toy-b``) into a folder, which is made if need be.

    Returns:
        Where the numbers and the picture lie.

    Raises:
        UserError: matplotlib is missing, or the folder cannot be written.
    """
    folder = checked_path(folder)
    numbers, picture = (folder / f"toy-{descent.problem.name}{suffix}" for suffix in (".json", ".png"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numbers.write_text(json.dumps(descent.to_dict(), allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {shown(numbers)}: {error.strerror}; give another folder") from error
    return numbers, draw(descent, picture)


def _landscape(descent: Descent) -> str:
    """A row for each method, a cell for each start."""
    cells = [
        "  ".join(f"{number:7.2f}" for number in (*row["losses"], row["distance"]))
        for row in descent.summary()
    ]
    width = len(descent.starts)
    rows = [
        [name, f"{passes * descent.steps[-1]:,}", *cells[m * width : (m + 1) * width]]
        for m, (name, passes) in enumerate(zip(descent.methods, descent.passes, strict=True))
    ]
    header = ["method", "passes", *(f"from ({x:g}, {y:g})" for x, y in descent.starts)]
    return (
        f"{aligned(header, rows)}\n\nL1, L2 and the distance to the Pareto set, for each start; {PASSES_NOTE}"
    )


def _coupled(descent: Descent) -> str:
    """A row for each method, a column for each milestone."""
    summary = descent.summary()
    header = ["method", "passes", *(f"after {int(step):,}" for step in summary[0]["sum"]), "distance"]
    rows = [
        [
            row["method"],
            f"{row['passes']:,}",
            *(f"{total:.3g}" for total in row["sum"].values()),
            f"{row['distance']:.3g}",
        ]
        for row in summary
    ]
    return (
        f"{aligned(header, rows)}\n\n"
        "the sum of the losses after so many steps, and the distance to the point that is best for both;\n"
        f"{PASSES_NOTE}. The sum is strictly convex,\n"
        "so every method that descends on it gets there: what differs is when"
    )
