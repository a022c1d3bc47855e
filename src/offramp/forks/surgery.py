"""Put rules on the forks of a network and take them off again: names, layers and outputs stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import reduce
from operator import mul
from typing import Any, TypeVar

from torch import Tensor, nn

from offramp.checks import of_kind
from offramp.errors import UserError, guess, shown
from offramp.forks import _channelwise, _readers  # noqa: F401  (they register what a Feature can do)
from offramp.forks._hand_out_cut import HandOutCut
from offramp.forks._hand_out_joined import HandOutJoined
from offramp.forks._hand_out_zeroed import HandOutZeroed
from offramp.forks._rotating import fold, rotating_forks
from offramp.forks._survey import features_of
from offramp.forks.fork import Fork, GainFork
from offramp.forks.forked_net import ForkedNet
from offramp.forks.partition import Partition
from offramp.forks.rotation import Rotation
from offramp.forks.rule import Place, Rule

__all__ = ["install", "partition", "remove"]

Net = TypeVar("Net", bound=ForkedNet)


def install(net: Net, rules: Sequence[Rule]) -> Net:
    """Put rules on the forks of a network, in place; where several act, their gains multiply.

    A :class:`Partition` among them says how the forks work (its ``impl`` and ``reference``); without one
    nothing is cut, and all that changes is how the gradients are added up. A :class:`Rotation` stands alone.

    Args:
        net: A multi-exit or multi-task net with plain forks.
        rules: No two of a kind, e.g. ``[Partition(), Equilibrium()]``.

    Returns:
        The net.

    Raises:
        UserError: Two rules of a kind, a net with one output, without forks or with some that are not plain,
            a rule that does not fit the net or the others, or a feature whose channel axis is not certain.
    """
    plain = _plain_forks(net, rules)
    features = features_of(net)
    axes = _axes(net, features, needed=any(rule.per_channel for rule in rules))
    rotation = next((rule for rule in rules if isinstance(rule, Rotation)), None)
    if rotation is None:
        forks = _gain_forks(net, plain, features, axes, rules)
    else:
        forks = rotating_forks(net, rotation, plain, features, axes)
    for i, fork in enumerate(forks):
        net.forks[i] = fork
    return net


def _gain_forks(
    net: ForkedNet,
    plain: Sequence[Fork],
    features: Sequence[Sequence[Tensor]],
    axes: Sequence[Sequence[int | None]],
    rules: Sequence[Rule],
) -> list[Fork]:
    """Forks with the product of the rules' gains."""
    heads = len(net.heads) // len(net.stages)
    forks: list[Fork] = []
    for exit, (fork, tensors, along) in enumerate(zip(plain, features, axes, strict=True), start=1):
        coarsest = max((i for i, axis in enumerate(along) if axis is not None), default=None)
        handouts = [
            None  # carried along, without a gradient
            if axis is None
            else _hand_out(Place(x.shape[axis], exit, len(net.stages), i == coarsest, heads), axis, rules)
            for i, (x, axis) in enumerate(zip(tensors, along, strict=True))
        ]
        forks.append(GainFork(handouts, fork.consumers) if any(handouts) else fork)
    return forks


def _plain_forks(net: ForkedNet, rules: Sequence[Rule]) -> list[Fork]:
    """The forks of a net on which rules can be put.

    Raises:
        UserError: They are not plain, there are none, no gradients meet at them, two rules are of a kind, or
            one of several is a rotation.
    """
    if not isinstance(net, ForkedNet):
        raise UserError(
            f"{type(net).__name__} has no forks to put rules on; take a net with exits (offramp.attach) or "
            "one with a decoder for each task (offramp.multi_task)"
        )
    if rules and len(net.heads) == 1:
        raise UserError(
            f"{type(net).__name__} has one output, so that no gradients meet at a fork; "
            "train it by method joint"
        )
    kinds = [type(rule) for rule in rules]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UserError(f"a net takes one {kind.__name__}, got {kinds.count(kind)}; keep one of them")
    if Rotation in kinds and len(kinds) > 1:
        raise UserError(
            "a Rotation sets the size of all gradients at a fork, and cannot be combined with other rules; "
            "give it alone"
        )
    plain: list[Fork] = []
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
        plain.append(fork)
    return plain


def _axes(
    net: Net, features: Sequence[Sequence[Tensor]], *, needed: bool
) -> Sequence[tuple[int | None, ...]]:
    """The channel axes; where they are not certain and equal gains need none, axis 1.

    Equal gains go along the channels too where these are known, since texts have as many tokens as they have.
    """
    try:
        return net.channel_axes()
    except UserError:
        if needed:
            raise
        return [tuple(1 if x.is_floating_point() and x.dim() > 1 else None for x in xs) for xs in features]


def partition(net: Net, options: Partition | None = None, **changes: Any) -> Net:
    """Put Deep Feature Surgery on a multi-exit or multi-task network, in place.

    Args:
        net: A net with plain forks; one of several tasks has a decoder for each.
        options: The partition; by default the paper's.
        **changes: Fields of :class:`Partition`, instead of ``options``: ``partition(net, beta=0.7)``.

    Returns:
        The net.

    Raises:
        UserError: A value out of range, an exit that does not exist, a net without forks or with some that
            are not plain, or a feature whose channel axis is not certain.
    """
    if options is not None and changes:
        raise UserError("give partition() either a Partition or its fields, not both")
    of_kind("options", options, Partition | None, "a Partition, e.g. offramp.forks.Partition(beta=0.7)")
    fields = {field.name for field in dataclasses.fields(Partition)}
    for name in changes:
        if name not in fields:
            raise UserError(
                f"a partition has no {shown(name)}{guess(name, fields)}; it has: {', '.join(sorted(fields))}"
            )
    return install(net, [options or Partition(**changes)])


def remove(net: Net) -> Net:
    """Remove all rules from a net's forks, which become plain forks; return the net.

    The net computes what it did before, up to rounding: rotations are folded into the heads. A partition with
    ``reference="zero"`` alone is lost.

    Raises:
        UserError: It is no network.
    """
    of_kind("net", net, nn.Module, "a net, e.g. one that offramp.attach made")
    fold(net)
    for i, fork in enumerate(getattr(net, "forks", ())):
        if isinstance(fork, GainFork):
            net.forks[i] = Fork(fork.consumers)
    return net


def _hand_out(place: Place, axis: int, rules: Sequence[Rule]) -> Any:
    """What hands out the Tensor at a place; None where no rule acts."""
    acting = [gains for rule in rules if (gains := rule.gains(place)) is not None]
    if not acting:
        return None
    gains = reduce(mul, acting)
    surgery = next((rule for rule in rules if isinstance(rule, Partition)), None)
    if surgery is not None and surgery.impl == "cat" and surgery.reference == "on":
        return HandOutJoined(gains, axis)
    split = surgery is not None and surgery.impl == "split"
    hand_out = HandOutCut(gains, axis, split=split, source=place.name)
    if surgery is not None and surgery.reference == "zero":
        kept = surgery.gains(place)
        return hand_out if kept is None else HandOutZeroed(hand_out, kept, axis)
    return hand_out
