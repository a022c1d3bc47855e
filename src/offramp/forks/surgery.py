"""Put rules on the forks of a network and take them off again: parameters, names and state_dict stay."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from offramp.errors import UserError
from offramp.forks.cat import HandOutJoined
from offramp.forks.channels import Channels
from offramp.forks.fork import Fork, GainFork
from offramp.forks.fused import HandOutCuts
from offramp.forks.liveness import Liveness
from offramp.forks.partition import ONLY_CUTS, Partition
from offramp.forks.readers import READERS
from offramp.forks.routing import Routing
from offramp.forks.rule import Rule
from offramp.forks.split import SPLIT_READERS, HandOutWhole
from offramp.forks.survey import Site, survey
from offramp.forks.zero import HandOutZeroed

if TYPE_CHECKING:
    from offramp.nets.multi_exit import MultiExitNet

__all__ = ["install", "partition", "remove"]


def install(net: MultiExitNet, rules: Sequence[Rule]) -> MultiExitNet:
    """Put rules on the forks of a multi-exit network, in place; where several act, their gains multiply.

    A :class:`Partition` among them says how the forks work (its ``impl`` and ``reference``); without one
    nothing is cut, the layers stay as they are, and all that changes is how the gradients are added up.

    Args:
        net: A net with plain forks.
        rules: No two of a kind, e.g. ``[Partition(), Equilibrium()]``.

    Returns:
        The net.

    Raises:
        UserError: Two rules of a kind, forks that are not plain, a rule that does not fit the net, or gains
            that the partition's ``impl`` cannot do.
    """
    kinds = [type(rule) for rule in rules]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UserError(f"a net takes one {kind.__name__}, got {kinds.count(kind)}; keep one of them")
    for fork in net.forks:
        if isinstance(fork, GainFork):
            raise UserError(
                "this net has rules on its forks already; take them off first with offramp.forks.remove(net)"
            )
        if type(fork) is not Fork:
            raise UserError(
                f"this net has forks of its own ({type(fork).__name__}), on which no rule can work; "
                "build it with plain ones (for a vgg: without slice_beta)"
            )
    sites, seen = survey(net, rules)
    surgery = next((rule for rule in rules if isinstance(rule, Partition)), None)
    if surgery is not None and surgery.reference == "zero":
        tools = _zero(surgery)
    else:
        tools = _HAND_OUT["fused" if surgery is None else surgery.impl](sites, seen)
    for i, row in enumerate(sites):
        if any(row):
            net.forks[i] = GainFork([None if site is None else tools(site) for site in row])
    return net


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
    return install(net, [options or Partition(**changes)])


def remove(net: MultiExitNet) -> MultiExitNet:
    """Take all rules off again: plain forks, ordinary layers. Returns the net."""
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
    for site in filter(None, itertools.chain(*sites)):
        if not all(((g == 0) | (g == 1)).all() for g in (site.gains.head, site.gains.next)):
            raise UserError(ONLY_CUTS)
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


def _zero(surgery: Partition) -> _Tools:
    def tool(site: Site) -> Callable[[Tensor], tuple[Any, Any]]:
        kept = surgery.gains(site.place)
        referenced = HandOutCuts(Routing([site.gains.head, site.gains.next]), (False, False))
        return referenced if kept is None else HandOutZeroed(referenced, kept)

    return tool


_HAND_OUT = {"fused": _fuse, "split": _split, "cat": _cat}
