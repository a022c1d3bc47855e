"""One dry run of a network: where its forks cut, and which layers read what is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.forks.gains import Gains
from offramp.forks.liveness import Liveness, all_live
from offramp.forks.rule import Place, Rule
from offramp.modes import modes_kept

if TYPE_CHECKING:
    from offramp.nets.multi_exit import MultiExitNet

__all__ = ["Site", "survey"]


@dataclass(frozen=True)
class Site:
    """One Tensor of the feature at one fork.

    Attributes:
        place: Which one.
        gains: The product of the rules', and 0 also where an earlier fork has stopped the gradient already.
        seals: For head and next stage the layers at which every way of this Tensor ends, if all of them
            read cuts; else none.
    """

    place: Place
    gains: Gains
    seals: tuple[set[nn.Module], set[nn.Module]]


def survey(net: MultiExitNet, rules: Sequence[Rule]) -> tuple[list[list[Site | None]], Liveness]:
    """Follow the gradient through the net as the rules will let it flow.

    Args:
        net: A net with plain forks.
        rules: What the forks will do.

    Returns:
        For each fork one site per Tensor of its feature (None: untouched), and what the layers read.

    Raises:
        UserError: A rule does not fit the net, a feature has no channels to tell apart, or a head or stage
            overwrites the feature that it reads.
    """
    seen = Liveness()
    sites: list[list[Site | None]] = []
    with _dry_run(net, net.input_size) as x:
        _check_reader(net.stages[0], "stage 1", x, input_size=net.input_size)
        feature, live, _ = seen.follow(net.stages[0], x, all_live(x))
        for exit in range(1, net.num_exits):
            _check_feature(feature, exit)
            tensors, alive = _as_tuple(feature), _as_tuple(live)
            places = [
                Place(len(a), exit, net.num_exits, coarsest=t is tensors[-1])
                for t, a in zip(tensors, alive, strict=True)
            ]
            acting = [[g for rule in rules if (g := rule.gains(place)) is not None] for place in places]
            gains = [
                reduce(mul, factors, Gains(a.double(), a.double()))
                for factors, a in zip(acting, alive, strict=True)
            ]
            for tensor, factors in zip(tensors, acting, strict=True):
                _check_channels(tensor, factors, exit)
            head, stage = net.heads[exit - 1], net.stages[exit]
            _check_reader(head, f"head {exit}", feature, input_size=net.input_size)
            _check_reader(stage, f"stage {exit + 1}", feature, input_size=net.input_size)
            _, _, head_seals = seen.follow(head, feature, _like(feature, [g.head != 0 for g in gains]))
            following, live, next_seals = seen.follow(
                stage, feature, _like(feature, [g.next != 0 for g in gains])
            )
            sites.append(
                [
                    Site(place, g, (h, n)) if factors else None
                    for place, factors, g, h, n in zip(
                        places, acting, gains, head_seals, next_seals, strict=True
                    )
                ]
            )
            feature = following
        seen.follow(net.heads[-1], feature, live)
    return sites, seen


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


def _check_channels(tensor: Tensor, factors: Sequence[Gains], exit: int) -> None:
    """Gains run along axis 1. Where all are equal, as under gradient equilibrium, it may be any axis."""
    equal = all(bool((g == g[0]).all()) for f in factors for g in (f.head, f.next))
    if factors and tensor.dim() not in (2, 4) and not (equal and tensor.dim() > 1):
        raise UserError(
            f"the feature of exit {exit} has shape {tuple(tensor.shape)}; "
            "the channels of maps [N, C, H, W] or vectors [N, C] can be told apart, others cannot"
        )


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _like(feature: Any, parts: list[Tensor]) -> Any:
    return tuple(parts) if isinstance(feature, tuple) else parts[0]
