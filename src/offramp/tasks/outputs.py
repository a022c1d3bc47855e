"""Names of outputs and metrics in tables and log files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["are_exits", "column", "exit_name", "heading", "names_in_words"]

_EXIT = "exit "
_HEADINGS = {"top1": "top-1 %", "top5": "top-5 %", "iou": "IoU %"}


def exit_name(number: int) -> str:
    """The name of the k-th exit (from 1): ``exit 3``."""
    return f"{_EXIT}{number}"


def column(output: str) -> str:
    """The part of a column's name that stands for an output: ``3`` for ``exit 3``, else its name."""
    return output.removeprefix(_EXIT) if _is_exit(output) else output


def names_in_words(outputs: Sequence[str]) -> str:
    """A list of outputs for a sentence: ``exit 1``, ``exits 1, 3``, ``depth, normals``."""
    if len(outputs) > 1 and are_exits(outputs):
        return f"exits {', '.join(map(column, outputs))}"
    return ", ".join(outputs)


def are_exits(outputs: Iterable[str]) -> bool:
    """Whether all outputs are exits of one network."""
    return all(_is_exit(name) for name in outputs)


def _is_exit(output: str) -> bool:
    return output.startswith(_EXIT) and output.removeprefix(_EXIT).isdecimal()


def heading(metric: str) -> str:
    """A metric with its unit, as tables call it: ``top-1 %``; one that is not known here, as it is."""
    return _HEADINGS.get(metric, metric)
