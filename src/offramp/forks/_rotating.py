"""Put rotations on the forks of a network, and fold them into its heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from offramp.copying import values_kept
from offramp.errors import UserError
from offramp.forks._foldable import Fold, folds_of
from offramp.forks._hand_out_turned import HandOutTurned
from offramp.forks._rotations import Rotations
from offramp.forks.fork import Fork, GainFork
from offramp.forks.forked_net import ForkedNet
from offramp.forks.rotation import Rotation
from offramp.unchanged import unchanged

__all__ = ["fold", "folded", "rotating_forks", "rotations_of"]


def rotating_forks(
    net: ForkedNet,
    rule: Rotation,
    plain: Sequence[Fork],
    features: Sequence[Sequence[Tensor]],
    axes: Sequence[Sequence[int | None]],
) -> list[Fork]:
    """Forks whose heads read the coarsest Tensor of the feature through rotations, at first the identity.

    Args:
        net: The net.
        rule: How the rotations learn.
        plain: The net's forks.
        features: What each fork hands out.
        axes: The channel axis of each Tensor of each feature; None: it has no gradient.

    Raises:
        UserError: A rotation could not be folded into some head.
    """
    heads = len(net.heads) // len(net.stages)
    coarsest = [max((i for i, axis in enumerate(along) if axis is not None), default=0) for along in axes]
    folds = _folds(net, heads, [(i, along[i]) for i, along in zip(coarsest, axes, strict=True)])
    forks: list[Fork] = []
    for k, (fork, tensors, along) in enumerate(zip(plain, features, axes, strict=True)):
        x, axis = tensors[coarsest[k]], along[coarsest[k]]
        if axis is None:
            forks.append(fork)
            continue
        like = x.new_zeros((), dtype=torch.promote_types(x.dtype, torch.float32))
        rotations = Rotations(rule, heads, fork.consumers, x.shape[axis], like)
        hand_out: list[Any] = [None] * len(tensors)
        hand_out[coarsest[k]] = HandOutTurned(
            rotations, axis, fork.consumers, folds[k * heads : (k + 1) * heads]
        )
        forks.append(GainFork(hand_out, fork.consumers))
    return forks


def _folds(net: ForkedNet, heads: int, rotated: Sequence[tuple[int, int | None]]) -> list[list[Fold]]:
    """For each head behind a fork the layers that take its rotation over.

    Args:
        net: The net, which is run once and left as it was.
        heads: How many there are behind each stage.
        rotated: For each fork, which Tensor of the feature is rotated, and the axis of its channels.

    Raises:
        UserError: There are none, or they are not the head's own.
    """
    folds: list[list[Fold]] = []

    def call(part: str, module: nn.Module, *inputs: Any) -> Any:
        behind = len(folds) // heads
        if part == "head" and behind < len(rotated):
            scale, axis = rotated[behind]
            name = f"head {len(folds) + 1}"
            folds.append([] if axis is None else folds_of(module, name, inputs, scale, axis))
        return module(*inputs)

    like = next(net.parameters(), torch.zeros(()))
    with unchanged(net), torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        net.eval()
        net.walk(net.sample(2), call)
    _check_own(net, folds)
    return folds


def _check_own(net: ForkedNet, folds: Sequence[Sequence[Fold]]) -> None:
    """Check that no other part of the net has the layers that rotations are folded into.

    Raises:
        UserError: One has.
    """
    parts = [*net.stages, *net.heads]
    for k, own in enumerate(folds):
        for fold in own:
            holders = [part for part in parts if any(p is fold.weight for p in part.parameters())]
            if len(holders) > 1:
                raise UserError(
                    f"rotograd folds a rotation into the layer of head {k + 1} that reads the feature, and "
                    "another part of the net has this layer too; give each head a layer of its own"
                )


def _hand_outs(net: nn.Module) -> list[HandOutTurned]:
    forks = [fork for fork in getattr(net, "forks", ()) if isinstance(fork, GainFork)]
    return [hand for fork in forks for hand in fork.hand_out if isinstance(hand, HandOutTurned)]


def rotations_of(net: nn.Module) -> list[Rotations]:
    """What the rotations on a net's forks remember and learn, which is no part of the net."""
    return [hand.rotations for hand in _hand_outs(net)]


def fold(net: nn.Module) -> None:
    """Fold the rotations on a net's forks into the heads, which are to read plain features from here on."""
    for hand in _hand_outs(net):
        hand.fold()


@contextmanager
def folded(net: nn.Module) -> Iterator[None]:
    """Context: the net has the weights by which it computes its outputs on plain forks too.

    For whoever keeps weights in the middle of a training. Nets without rotations have these weights already.
    """
    weights = [each.weight for hand in _hand_outs(net) for folds in hand.folds for each in folds]
    own = [values_kept(weight) for weight in weights]
    try:
        fold(net)
        yield
    finally:
        for put_back in own:
            put_back()
