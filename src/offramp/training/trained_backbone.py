"""Heads are trained alone on a backbone that is trained already: refusals where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offramp.errors import UserError, shown
from offramp.methods import Method
from offramp.nets import NETS, MultiExitNet, Net
from offramp.nets.text import parse_net

__all__ = ["check_last_exit", "check_trained_backbone"]


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


def check_last_exit(method: Method, net: Net, record: Mapping[str, Any]) -> None:
    """Refuse to train heads alone where the weights that were given had none for the last exit.

    Args:
        method: The method with its options.
        net: The net.
        record: The content of ``run.json``.

    Raises:
        UserError: It would stay random.
    """
    noted = record.get("init")
    if noted is None or method.regime.trains_backbone or not isinstance(net, MultiExitNet):
        return
    shallow = {f"heads.{k}" for k in range(net.num_exits - 1)}
    if left := [head for head in noted["as_initialised"] if head not in shallow]:
        raise UserError(
            f"{shown(method.name)} leaves the last exit as it is, and {noted['source']} has no {left[0]} "
            "that fits these classes; train it first, e.g. by the method mixed with this init"
        )
