"""One dry run of a network: where its forks cut, and which layers read what is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.forks.gains import Gains
from offramp.forks.liveness import Liveness, all_live
from offramp.forks.partition import Partition
from offramp.modes import modes_kept

if TYPE_CHECKING:
    from offramp.nets.multi_exit import MultiExitNet

__all__ = ["Site", "survey"]


@dataclass(frozen=True)
class Site:
    """One Tensor of the feature at one fork.

    Attributes:
        shared: Bool ``[C]``, the shared channels.
        gains: The partition's, and 0 also where an earlier fork has stopped the gradient already.
        seals: For head and next stage the layers at which every way of this Tensor ends, if all of them
            read cuts; else none.
    """

    shared: Tensor
    gains: Gains
    seals: tuple[set[nn.Module], set[nn.Module]]


def survey(
    net: MultiExitNet, options: Partition, where: Sequence[int]
) -> tuple[list[list[Site | None]], Liveness]:
    """Follow the gradient through the net as the partition will let it flow.

    Args:
        net: A net with plain forks.
        options: The partition.
        where: The exits (from 1) to partition.

    Returns:
        For each fork one site per Tensor of its feature (None: untouched), and what the layers read.

    Raises:
        UserError: A part would be empty, a feature has no channels to split, or a head or stage overwrites
            the feature that it reads.
    """
    seen = Liveness()
    sites: list[list[Site | None]] = []
    with _dry_run(net, net.input_size) as x:
        _check_reader(net.stages[0], "stage 1", x, input_size=net.input_size)
        feature, live, _ = seen.follow(net.stages[0], x, all_live(x))
        for exit in range(1, net.num_exits):
            _check_feature(feature, exit)
            tensors, alive = _as_tuple(feature), _as_tuple(live)
            split = [exit in where and (options.scales == "all" or t is tensors[-1]) for t in tensors]
            gains = [
                Gains(a.double(), a.double()) * (options.gains(len(a), exit) if s else _PLAIN)
                for s, a in zip(split, alive, strict=True)
            ]
            head, stage = net.heads[exit - 1], net.stages[exit]
            _check_reader(head, f"head {exit}", feature, input_size=net.input_size)
            _check_reader(stage, f"stage {exit + 1}", feature, input_size=net.input_size)
            _, _, head_seals = seen.follow(head, feature, _like(feature, [g.head != 0 for g in gains]))
            following, live, next_seals = seen.follow(
                stage, feature, _like(feature, [g.next != 0 for g in gains])
            )
            sites.append(
                [
                    Site(options.mask(len(a), exit), g, (h, n)) if s else None
                    for s, a, g, h, n in zip(split, alive, gains, head_seals, next_seals, strict=True)
                ]
            )
            feature = following
        seen.follow(net.heads[-1], feature, live)
    return sites, seen


_PLAIN = Gains(torch.ones(()).double(), torch.ones(()).double())


@contextmanager
def _dry_run(net: nn.Module, input_size: tuple[int, ...]) -> Iterator[Tensor]:
    """A zero input for the net; every module's mode is put back afterwards."""
    like = next(net.parameters(), torch.zeros(()))
    with modes_kept(net), torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        yield like.new_zeros((2, *input_size))


def _check_reader(reader: nn.Module, name: str, feature: Any, *, input_size: tuple[int, ...]) -> None:
    """A reader that works in place on the feature spoils it for the other one."""
    copies = [t.clone() for t in _as_tuple(feature)]
    versions = [t._version for t in copies]
    try:
        reader.eval()(_like(feature, copies))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name} fails on images of {input_size} ({reason}); set net.input_size") from None
    if name != "stage 1" and [t._version for t in copies] != versions:
        raise UserError(
            f"{name} overwrites the feature that it reads, and another reader needs it too; "
            "make its first operation work out of place (inplace=False)"
        )


def _check_feature(feature: Any, exit: int) -> None:
    tensors = _as_tuple(feature)
    if not all(isinstance(t, Tensor) for t in tensors):
        raise UserError(
            f"stage {exit} returns neither a Tensor nor a tuple of Tensors; a feature must be one of them"
        )
    if tensors[-1].dim() not in (2, 4):
        raise UserError(
            f"the feature of exit {exit} has shape {tuple(tensors[-1].shape)}; "
            "a partition splits the channels of maps [N, C, H, W] or vectors [N, C]"
        )


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _like(feature: Any, parts: list[Tensor]) -> Any:
    return tuple(parts) if isinstance(feature, tuple) else parts[0]
