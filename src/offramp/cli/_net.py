"""The ``--net`` flag of the commands that look at finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offramp.nets import Net

__all__ = ["net_of"]


def net_of(runs: Sequence[str], word: str | None) -> Net | None:
    """The net that a user gives for runs, built for their classes and images, or None if none is given.

    Args:
        runs: Run folders; the first one tells what was trained on.
        word: The network, e.g. ``file.py:build``.

    Raises:
        UserError: The first is no run folder, or the network cannot be built.
    """
    import torch

    from offramp.nets.text import build
    from offramp.runs.record import read_record
    from offramp.runs.targets import targets_from_json

    if word is None or not runs:
        return None
    data = read_record(runs[0])["data"]
    net = build(word, input_size=tuple(data["input_size"]), targets=targets_from_json(data))
    return net.cuda() if torch.cuda.is_available() else net
