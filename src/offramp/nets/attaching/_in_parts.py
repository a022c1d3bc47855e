"""Run a backbone whole and in parts, alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from offramp.nets.attaching._interface import call_with, logits_of
from offramp.nets.attaching._parts import Parts
from offramp.unchanged import unchanged

__all__ = ["Run", "both", "set_mode"]

Run = Callable[[bool, Any], Any]  # whether in train mode, and a sample -> logits
_Seen = TypeVar("_Seen")


def both(parts: Parts, backbone: nn.Module, look: Callable[[Run], _Seen]) -> tuple[_Seen, _Seen]:
    """What ``look`` sees of the whole, and of the parts, which start from the same state and leave it so.

    Where it sees nothing of the whole (None), the parts are not run.

    What of the backbone is in no part is in the other mode meanwhile, since nothing will ever set it.

    Args:
        parts: The backbone, cut.
        backbone: The whole.
        look: Runs what it is given. Every run begins with the same random state, and the buffers, attributes
            and random states of numpy and Python as the run before has left them.
    """

    def whole(training: bool, sample: Any) -> Any:
        torch.manual_seed(0)
        return logits_of(call_with(backbone.train(training), sample))

    def split(training: bool, x: Any) -> Any:
        set_mode(parts, backbone, training)
        torch.manual_seed(0)
        for part in (*parts.stages, parts.end):
            x = part(x)
        return x

    with unchanged(backbone, *parts.stages, parts.end):
        of_whole = look(whole)
    if of_whole is None:
        return of_whole, of_whole
    with unchanged(backbone, *parts.stages, parts.end):
        return of_whole, look(split)


def set_mode(parts: Parts, backbone: nn.Module, training: bool) -> None:
    """Train or eval mode for the parts, the other one for what of the backbone is in none."""
    backbone.train(not training)
    for module in (*parts.stages, parts.end):
        module.train(training)
