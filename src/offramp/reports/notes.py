"""Remarks to read beside the numbers of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offramp.reports.groups import Group

__all__ = ["notes"]

MIXED = (
    "separate nets differ from a joint one in conflict, shared capacity, deep supervision and effective step "
    "at once, so that this is no measure of conflict alone"
)


def notes(groups: Sequence[Group], differing: Mapping[str, Any]) -> list[str]:
    """One line each, without a full stop.

    Args:
        groups: The baseline first.
        differing: The settings in which the runs' recipes are not all alike, and the baseline's values.
    """
    lines = []
    if differing:
        usual = ", ".join(f"{key}={value}" for key, value in differing.items())
        lines.append(
            f"the recipes differ in {', '.join(differing)}: this compares more than methods; "
            f"where a label does not say otherwise: {usual}"
        )
    if any(len(set(group.seeds) & set(groups[0].seeds)) == 1 for group in groups[1:]):
        lines.append("one common seed gives no interval; train each method with the same three or more seeds")
    if any(set(group.seeds) != set(groups[0].seeds) for group in groups[1:]):
        lines.append("not all methods have the same seeds; a difference is over the seeds that both have")
    return lines + _separate(groups)


def _separate(groups: Sequence[Group]) -> list[str]:
    """Where one network per exit beats a joint one, and what that does not say."""
    by_label = {group.label: group for group in groups}
    if not {"joint", "separate"} <= by_label.keys():
        return []
    differences = by_label["separate"].minus(by_label["joint"])
    if differences is None:
        return []
    above = [str(k) for k, difference in enumerate(differences[:-2], 1) if difference.mean > 0]
    if not above:
        return [f"separate is not above joint at any exit; {MIXED}"]
    where = "every exit" if len(above) == len(differences) - 2 else f"exit {', '.join(above)} only"
    sure = [str(k) for k, one in enumerate(differences[:-2], 1) if one.decided and one.mean > 0]
    beyond = f"at exit {', '.join(sure)}" if sure else "at no exit"
    return [
        f"separate is above joint at {where}, by their means, and {beyond} by more than the spread over the "
        f"seeds explains; {MIXED}"
    ]
