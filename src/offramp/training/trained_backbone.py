"""Heads are trained alone on a backbone that is trained already: refusals where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from offramp.errors import UserError, shown
from offramp.methods import Method
from offramp.nets import NETS, MultiExitNet, Net
from offramp.nets.head_parts import head_parts
from offramp.nets.text import parse_net

__all__ = ["check_given_heads", "check_trained_backbone"]


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


def check_given_heads(method: Method, net: Net, record: Mapping[str, Any]) -> None:
    """Refuse to train heads alone where a part of them that rests had no weights among those that were given.

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
    shallow = {f"heads.{k}": head for k, head in enumerate([*net.heads][:-1])}
    remedy = "train it first, e.g. by the method mixed with this init"
    for place in noted["as_initialised"]:
        if place not in shallow:
            raise UserError(
                f"{shown(method.name)} leaves the last exit as it is, and {noted['source']} has no {place} "
                f"that fits these classes; {remedy}"
            )
        if method.regime.bodies_rest and _is_random(shallow[place], shown(method.name)):
            raise UserError(
                f"{shown(method.name)} leaves the layers of {place} below its classifier as they are, and "
                f"{noted['source']} has no {place} that fits; {remedy}"
            )


def _is_random(head: nn.Module, method: str) -> bool:
    """Whether a head that is not trained computes its feature by random weights; norm layers begin with 1."""
    (parts,) = head_parts([head], method)
    return any(p.dim() > 1 for p in parts.body.parameters())
