"""Outputs by name: what tables and log files call them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["column", "exit_name", "names_in_words"]

_EXIT = "exit "


def exit_name(number: int) -> str:
    """What the k-th exit (from 1) is called: ``exit 3``."""
    return f"{_EXIT}{number}"


def column(output: str) -> str:
    """An output's name as part of a column's: ``3`` for ``exit 3``; other names as they are."""
    return output.removeprefix(_EXIT)


def names_in_words(outputs: Sequence[str]) -> str:
    """A list of outputs for a sentence: ``exit 1``, ``exits 1, 3``, ``depth, normals``."""
    if len(outputs) > 1 and all(name.startswith(_EXIT) for name in outputs):
        return f"exits {', '.join(map(column, outputs))}"
    return ", ".join(outputs)
