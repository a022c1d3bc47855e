"""Fig 13 of DR-MGF, left: how alike the exits' routes are, beside what chance gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from offramp.analysis.pictures.canvas import canvas
from offramp.analysis.pictures.pruning import draw_matrix
from offramp.analysis.similarity import Likeness

__all__ = ["draw_similarity"]


def draw_similarity(path: Path, found: Mapping[str, Likeness]) -> None:
    """Draw a row of two maps per run.

    Args:
        path: The picture's file.
        found: Label of a run -> its cosines.
    """
    side = 1.2 + 0.52 * max(len(one.raw) for one in found.values())
    with canvas(path, 2 * side + 1.4, (side + 1.5) * len(found)) as figure:
        panels = figure.subplots(len(found), 2, squeeze=False)
        for (raw, centred), (label, one) in zip(panels, found.items(), strict=True):
            low = min(one.raw.min().item(), *one.chance.values())
            draw_matrix(raw, one.raw.tolist(), "{:.3f}", "Blues", (low, 1.1 - 0.1 * low))
            draw_matrix(centred, one.centred.tolist(), "{:.3f}", "RdBu", (-1, 1))
            raw.set_title(f"{label}\ncosine of |nu|", loc="left", fontsize=11)
            centred.set_title("\ncosine of |nu| less its mean", loc="left", fontsize=11)
            chance = ",\n".join(f"{value:.3f} {name}" for name, value in one.chance.items())
            raw.set_xlabel(f"exit\nby chance: {chance}", fontsize=10)
            centred.set_xlabel("exit\nby chance: 0,\n1 from an equal start\n\n", fontsize=10)
            raw.set_ylabel("exit")
