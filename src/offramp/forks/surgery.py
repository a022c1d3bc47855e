"""Put a partition on a network and take it off again: parameters, names and state_dict stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.forks.cat import HandOutJoined
from offramp.forks.channels import Channels
from offramp.forks.fork import Fork, GainFork
from offramp.forks.fused import HandOutCuts
from offramp.forks.liveness import Liveness
from offramp.forks.partition import Partition
from offramp.forks.readers import READERS, reader_of
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
        UserError: A value out of range, an exit that does not exist, or forks that are not plain.
    """
    if options is not None and changes:
        raise UserError("give partition() either a Partition or its fields, not both")
    options = options or Partition(**changes)
    last = net.num_exits
    where = tuple(range(1, last)) if options.where is None else tuple(options.where)
    for exit in (*where, *(options.shared or ())):
        if not 1 <= exit < last:
            raise UserError(
                f"exit {exit} cannot be partitioned: choose from 1 to {last - 1}, the last feature is never split"
            )
    if any(type(fork) is not Fork for fork in net.forks):
        raise UserError("this net's forks are not plain; take them off first with offramp.forks.remove(net)")
    sites, seen = survey(net, options, where)
    if options.reference == "zero":
        tool: Callable[[Site], Any] = lambda site: HandOutZeroed(site.shared)  # noqa: E731
    else:
        tool = {"fused": _fuse, "split": _split, "cat": _cat}[options.impl](sites, seen)
    for i, row in enumerate(sites):
        if any(row):
            net.forks[i] = GainFork([site and tool(site) for site in row])
    return net


def remove(net: MultiExitNet) -> MultiExitNet:
    """Take the partition off again: plain forks, ordinary layers. Returns the net."""
    for i in range(len(net.forks)):
        net.forks[i] = Fork()
    for module in net.modules():
        if type(module) in _TAUGHT:
            for name in ("routing", "live", "dead"):
                module.__dict__.pop(name, None)
            module.__class__ = type(module).__bases__[0]
    return net


_TAUGHT = {*READERS.values(), *SPLIT_READERS.values()}
_Sites = list[list[Site | None]]


def _fuse(sites: _Sites, seen: Liveness) -> Callable[[Site], HandOutCuts]:
    def sealed(site: Site) -> tuple[bool, bool]:
        return tuple(
            bool(seals) and not gain.all()
            for seals, gain in zip(site.seals, (site.gains.head, site.gains.next), strict=True)
        )

    cut = {layer for row in sites for s in row if s for seals, c in zip(s.seals, sealed(s)) if c for layer in seals}
    for layer in cut | {layer for layer, live in seen.read.items() if not live.all() and layer not in seen.blind}:
        if layer in seen.read:
            live = seen.read[layer]
            layer.routing = Routing([torch.ones_like(live) if layer in seen.blind else live])
        layer.__class__ = reader_of(layer)
    return lambda site: HandOutCuts(Routing([site.gains.head, site.gains.next]), sealed(site))


def _split(sites: _Sites, seen: Liveness) -> Callable[[Site], HandOutWhole]:
    # A layer that is called elsewhere too must stay whole, since it could not tell its callers apart.
    for layer, live in seen.read.items():
        if not live.all() and layer not in seen.blind:
            layer.__class__ = SPLIT_READERS[type(layer)]
            layer.live, layer.dead = Channels(live), Channels(~live)
    return lambda site: HandOutWhole(
        site.gains, tuple(bool(seals) and not seals & seen.blind for seals in site.seals)
    )


def _cat(sites: _Sites, seen: Liveness) -> Callable[[Site], HandOutJoined]:
    return lambda site: HandOutJoined(site.gains)
