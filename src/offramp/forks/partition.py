"""Deep Feature Surgery: partition each shared feature, cut the gradients that conflict.

Gong et al., "Deep Feature Surgery: Towards Accurate and Efficient Multi-Exit Networks", ECCV 2024.

The feature f_i of every exit but the last is split by channel (Eq 5): the first C+ = round(beta C) channels,
f_i+, are *shared* and the others, f_i-, are the exit's *own*. Forward, head and next stage read all of f_i
(feature referencing, Eq 9). Backward, the own loss reaches f_i- alone and the later losses reach f_i+ alone
(Eq 7), so that no channel of f_i is pulled two ways. As gains of the fork:

===================  ==============  ==============
gradient from        shared (f+)     own (f-)
===================  ==============  ==============
the head             own_to_shared   1
the next stage       1               later_to_own
===================  ==============  ==============

A trunk with K decoders is one such fork. Its feature is split in K parts; decoder k reads all of them and its
loss reaches part k alone. That is GradSplit with masks on the feature and A = I (Deng et al., WACV 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from offramp.checks import choice, number, numbers
from offramp.errors import UserError
from offramp.forks._exit_options import exit_numbers, shared_channels
from offramp.forks._shares import ROUNDINGS, parts, shared_count
from offramp.forks.rule import SCALES, Place

__all__ = ["Partition"]

EQUAL = 0.5  # beta's default: halves, or as many equal parts as there are decoders
IMPLEMENTATIONS = ("fused", "split", "cat")
REFERENCES = ("on", "zero")


@dataclass(frozen=True)
class Partition:
    """The DFS partition; the defaults are the paper's.

    Attributes:
        beta: Share of the channels that is shared, in (0, 1). Of a trunk with K decoders: the share of each
            in their order, K numbers that add up to 1, or 0.5 for equal shares.
        own_to_shared: Gain of the own loss on the shared channels: 0 in the paper, 1 in the authors' MSDNet.
        later_to_own: Gain of the later losses on the own channels: 0 in the paper.
        rounding: Of beta C, or of where each part ends: ``round`` (half to even, as published), ``floor`` or
            ``multiple_of=8``.
        where: The exits (from 1) whose feature is partitioned; by default all but the last.
        scales: Of a feature that is a tuple: partition the ``coarsest`` (the last that has channels) or
            ``all``.
        channels: Exit -> the indices of its shared channels, instead of the first round(beta C).
        reference: ``on`` (Eq 9), or ``zero``: each consumer reads zeros in place of the others'
            channels (Eq 6). Without them altogether: ``vgg7(slice_beta=...)``.
        impl: ``fused`` saves the operations that DFS makes superfluous. ``split`` runs two layers and an
            add for each layer that reads a fork, as the authors' VGG does. ``cat`` joins detached halves,
            as their ResNet and MSDNet do, and saves nothing.

    Raises:
        UserError: A value out of its range.
    """

    beta: float | Sequence[float] = EQUAL
    own_to_shared: float = 0.0
    later_to_own: float = 0.0
    rounding: str = "round"
    where: Sequence[int] | None = None
    scales: str = "coarsest"
    channels: Mapping[int, Sequence[int]] | None = None
    reference: str = "on"
    impl: str = "fused"
    per_channel: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.beta, (list, tuple)):
            bounds = "the share of each decoder, above 0 and adding up to 1"
            shares = numbers(
                self, "beta", bounds, lambda beta: min(beta) > 0 and math.isclose(sum(beta), 1, abs_tol=0.01)
            )
            object.__setattr__(self, "beta", shares)
        else:
            bounds = "above 0 and below 1, the share of a feature's channels that later exits train"
            number(self, "beta", bounds, lambda beta: 0 < beta < 1)
        object.__setattr__(self, "where", exit_numbers(self.where))
        object.__setattr__(self, "channels", shared_channels(self.channels))
        for name in ("own_to_shared", "later_to_own"):
            number(self, name, "of 0 or more, a gradient's gain", lambda gain: gain >= 0)
        for name, known in (
            ("rounding", ROUNDINGS), ("scales", SCALES),
            ("reference", REFERENCES), ("impl", IMPLEMENTATIONS),
        ):  # fmt: skip
            if getattr(self, name) == "slice":
                raise UserError(
                    f"{name} cannot be 'slice': slicing changes the layers, so it belongs to the net; "
                    "build one that is sliced, e.g. vgg7(slice_beta=0.5)"
                )
            choice(self, name, known)
        if self.reference == "zero" and (self.own_to_shared or self.later_to_own):
            raise UserError(
                "reference=zero leaves no edge for own_to_shared or later_to_own to act on; set them to 0"
            )

    def mask(self, channels: int, exit: int) -> Tensor:
        """Which channels of an exit's feature are shared.

        Args:
            channels: C.
            exit: From 1.

        Returns:
            Bool ``[C]``.

        Raises:
            UserError: One part would be empty, an index is not a channel, or beta is a share for each
                decoder.
        """
        if not isinstance(self.beta, (int, float)):
            raise UserError(
                f"beta is {self.beta}, a share for each decoder of a net of several tasks; "
                "for exits give one number, the share that later exits train"
            )
        mask = torch.zeros(channels, dtype=torch.bool)
        if self.channels is not None and exit in self.channels:
            index = list(self.channels[exit])
            if not all(0 <= i < channels for i in index):
                raise UserError(
                    f"exit {exit} has channels 0 to {channels - 1}, but its shared channels name others"
                )
            mask[index] = True
        else:
            mask[: shared_count(self.beta, channels, self.rounding)] = True
        if mask.all() or not mask.any():
            part = "own" if mask.all() else "shared"
            raise UserError(
                f"beta={self.beta} leaves exit {exit} no {part} channel of its {channels} "
                f"(rounding={self.rounding}); choose another beta or a wider net"
            )
        return mask

    def gains(self, place: Place) -> Tensor | None:
        """Gains of own and others' channels at a place; None at one that is not partitioned.

        Raises:
            UserError: There is no such exit to partition, no such channel, or one part would be empty; or
                an option does not fit a net with a decoder for each task.
        """
        if place.heads > 1:
            trained = self._of_decoders(place) if place.among(self.scales) else None
            return None if trained is None else trained.double()
        for exit in (*(self.where or ()), *(self.channels or ())):
            if not 1 <= exit < place.num_exits:
                raise UserError(
                    f"exit {exit} cannot be partitioned: choose from 1 to {place.num_exits - 1} "
                    "(the last feature is never split)"
                )
        if place.exit == place.num_exits or not place.among(self.scales):
            return None
        if self.where is not None and place.exit not in self.where:
            return None
        shared = self.mask(place.channels, place.exit).double()
        own = 1 - shared
        return torch.stack([own + self.own_to_shared * shared, shared + self.later_to_own * own])

    def _of_decoders(self, place: Place) -> Tensor:
        """Which channels each decoder trains, bool ``[K, C]``.

        Raises:
            UserError: The net has exits as well, an option is for exits, the shares are not one for each
                decoder, or one of them is too small for a channel.
        """
        if place.num_exits > 1:
            raise UserError(
                "a partition is for exits or for tasks, and this net has several tasks at each exit; "
                "take a net with one of them, or another method, such as pcgrad"
            )
        if self.where is not None or self.channels is not None or self.own_to_shared or self.later_to_own:
            raise UserError(
                "where, channels, own_to_shared and later_to_own are about exits, and this net has a "
                "decoder for each task; leave them out"
            )
        shares = [1.0] * place.heads if self.beta == EQUAL else self.beta
        if isinstance(shares, (int, float)) or len(shares) != place.heads:
            raise UserError(
                f"beta is {self.beta}, and this net has {place.heads} decoders; give a list with the share "
                "of each, or leave it out for equal shares"
            )
        trained = parts(shares, place.channels, self.rounding)
        for decoder, mask in enumerate(trained, start=1):
            if not mask.any():
                given = "an equal share leaves" if self.beta == EQUAL else f"beta={self.beta} leaves"
                raise UserError(
                    f"{given} decoder {decoder} of {place.heads} no channel of the {place.channels} "
                    f"(rounding={self.rounding}); choose other shares by beta, or a wider net"
                )
        return trained
