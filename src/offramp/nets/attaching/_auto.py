"""Places for exits at equal shares of a backbone's FLOPs: ``at="auto:4"``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from offramp.errors import UserError, shown
from offramp.nets.attaching._clean_cuts import clean_cuts
from offramp.nets.attaching._interface import STAGES
from offramp.say import say

__all__ = ["auto_places"]


def auto_places(backbone: nn.Module, at: str, sample: Any) -> list[str]:
    """The modules after which K-1 exits divide the FLOPs best, and a line that says so.

    Exit j of K shall have j/K of the backbone's multiply-accumulates before it. Of all choices of K-1 clean
    cuts the one is taken whose shares are nearest, in sum.

    Args:
        backbone: The backbone, which is left as it was.
        at: ``"auto:K"`` for K exits, of which the last is the backbone's own.
        sample: An input for it.

    Raises:
        UserError: No such text; operators without a formula for their FLOPs; or fewer than K-1 clean cuts.
    """
    match = re.fullmatch(r"auto:([0-9]+)", at)
    exits = int(match[1]) if match else 0
    if exits < 2:
        raise UserError(
            f"at={shown(at)} names no place for an exit; give a list of module names, such as at=['layer1'], "
            "or at='auto:4' for four exits, of which the last is the backbone's own"
        )
    cuts, macs = clean_cuts(backbone, sample)
    if len(cuts) < exits - 1:
        raise UserError(_too_few(type(backbone).__name__, len(cuts), at))
    places = _nearest([cut.macs / macs for cut in cuts], exits)
    names = [cuts[i].name for i in places]
    shares = ", ".join(f"{cuts[i].macs / macs:.0%}" for i in places)
    say(f"exits after {', '.join(names)} ({shares} of the FLOPs), and at the end")
    return names


def _too_few(backbone: str, count: int, at: str) -> str:
    if not count:
        return (
            f"{backbone} has no clean cut, a module whose output is all that the rest reads, with FLOPs "
            f"before and behind it; name the modules to cut after, at=[...], or {STAGES}"
        )
    return (
        f"{backbone} has clean cuts for {count + 1} exits, and at={shown(at)} asks for more; "
        f"give at='auto:{count + 1}', or name the modules to cut after, at=[...]"
    )


def _nearest(shares: Sequence[float], exits: int) -> tuple[int, ...]:
    """Positions of the K-1 rising shares that are nearest to 1/K, 2/K, ... in sum."""
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}  # for the first j exits
    for i, share in enumerate(shares):
        for j in reversed(range(exits - 1)):
            if j in best:
                distance, chosen = best[j]
                option = (distance + abs(share - (j + 1) / exits), (*chosen, i))
                best[j + 1] = min(option, best.get(j + 1, option))
    return best[exits - 1][1]
