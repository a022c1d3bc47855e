"""Heads are trained alone on a backbone that is trained already."""

from __future__ import annotations

from pathlib import Path

from offramp.errors import UserError, shown
from offramp.methods import Method
from offramp.nets import NETS
from offramp.nets.text import parse_net

__all__ = ["check_trained_backbone"]


def check_trained_backbone(method: Method, net: str, init: str | Path | None) -> None:
    """Refuse to train heads alone on a net of the zoo without weights, whose backbone would be random.

    Args:
        method: The method with its options.
        net: The net's text. One of a user's own may bring its weights.
        init: Weights to start from.

    Raises:
        UserError: The method trains heads alone, and there are none.
    """
    if init is None and not method.regime.trains_backbone and parse_net(net)[0] in NETS:
        raise UserError(
            f"{shown(method.name)} trains heads on a backbone that is trained already, and {shown(net)} has "
            "random weights; give those of a finished run, or of a file, e.g. `init='runs/joint'`"
        )
