"""Put a partition on a network and take it off again: parameters, names and state_dict stay."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from offramp.errors import UserError
from offramp.forks.cat import HandOutJoined
from offramp.forks.channels import Channels
from offramp.forks.fork import Fork, GainFork
from offramp.forks.fused import HandOutCuts
from offramp.forks.liveness import Liveness
from offramp.forks.partition import Partition
from offramp.forks.readers import READERS
from offramp.forks.routing import Routing
from offramp.forks.split import SPLIT_READERS, HandOutWhole
from offramp.forks.survey import Site, survey
from offramp.forks.zero import HandOutZeroed

if TYPE_CHECKING:
    from offramp.nets.multi_exit import MultiExitNet

__all__ = ["partition", "remove"]


def partition(net: MultiExitNet, options: Partition | None = None, **changes: Any) -> MultiExitNet:
    """Put Deep Feature Surgery on a multi-exit network, in place.

    Args:
        net: A net with plain forks.
        options: The partition; by default the paper's.
        **changes: Fields of :class:`Partition`, instead of ``options``: ``partition(net, beta=0.7)``.

    Returns:
        The net.

    Raises:
        UserError: A value out of range, an exit that does not exist, forks that are not plain, or features
            that are neither maps ``[N, C, H, W]`` nor vectors ``[N, C]``.
    """
    if options is not None and changes:
        raise UserError("give partition() either a Partition or its fields, not both")
    options = options or Partition(**changes)
    last = net.num_exits
    where = tuple(range(1, last)) if options.where is None else tuple(options.where)
    for exit in (*where, *(options.shared or ())):
        if not 1 <= exit < last:
            raise UserError(
                f"exit {exit} cannot be partitioned: choose from 1 to {last - 1} "
                "(the last feature is never split)"
            )
    for fork in net.forks:
        if isinstance(fork, GainFork):
            raise UserError(
                "this net is partitioned already; take that off first with offramp.forks.remove(net)"
            )
        if type(fork) is not Fork:
            raise UserError(
                f"this net has forks of its own ({type(fork).__name__}), which a partition cannot replace; "
                "build it with plain ones (for a vgg: without slice_beta)"
            )
    sites, seen = survey(net, options, where)
    hand_out = _zero if options.reference == "zero" else _HAND_OUT[options.impl]
    tools = hand_out(sites, seen)
    for i, row in enumerate(sites):
        if any(row):
            net.forks[i] = GainFork([None if site is None else tools(site) for site in row])
    return net


def remove(net: MultiExitNet) -> MultiExitNet:
    """Take the partition off again: plain forks, ordinary layers. Returns the net."""
    for i, fork in enumerate(net.forks):
        if isinstance(fork, GainFork):
            net.forks[i] = Fork()
    for module in net.modules():
        if type(module) in _TAUGHT:
            for name in ("routing", "live", "dead"):
                vars(module).pop(name, None)
            module.__class__ = type(module).__bases__[0]
    return net


_TAUGHT = {*READERS.values(), *SPLIT_READERS.values()}
_Sites = list[list[Site | None]]
_Tools = Callable[[Site], Callable[[Tensor], tuple[Any, Any]]]


def _fuse(sites: _Sites, seen: Liveness) -> _Tools:
    def handed_cuts(site: Site) -> tuple[bool, bool]:
        head, following = (bool(seals) for seals in site.seals)
        return head and not site.gains.head.all(), following and not site.gains.next.all()

    layers = {layer for layer, live in seen.read.items() if not live.all() and layer not in seen.blind}
    for site in filter(None, itertools.chain(*sites)):
        for handed, seals in zip(handed_cuts(site), site.seals, strict=True):
            layers |= seals if handed else set()
    for layer in layers:
        if layer in seen.read:
            live = seen.read[layer]
            vars(layer)["routing"] = Routing([torch.ones_like(live) if layer in seen.blind else live])
        layer.__class__ = READERS[type(layer)]
    return lambda site: HandOutCuts(Routing([site.gains.head, site.gains.next]), handed_cuts(site))


def _split(sites: _Sites, seen: Liveness) -> _Tools:
    for layer, live in seen.read.items():
        # A layer that is called elsewhere too must stay whole, since it could not tell its callers apart.
        if not live.all() and layer not in seen.blind:
            vars(layer).update(live=Channels(live), dead=Channels(~live))
            layer.__class__ = SPLIT_READERS[type(layer)]

    def tool(site: Site) -> HandOutWhole:
        head, following = (bool(seals) and not seals & seen.blind for seals in site.seals)
        return HandOutWhole(site.gains, (head, following))

    return tool


def _cat(sites: _Sites, seen: Liveness) -> _Tools:
    return lambda site: HandOutJoined(site.gains)


def _zero(sites: _Sites, seen: Liveness) -> _Tools:
    return lambda site: HandOutZeroed(site.shared)


_HAND_OUT = {"fused": _fuse, "split": _split, "cat": _cat}
