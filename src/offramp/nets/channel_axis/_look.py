"""Run a net once and see which axis of each feature the layers around it take for the channels'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from offramp.attention import plain_attention
from offramp.errors import UserError
from offramp.forks.scales import scales_of
from offramp.nets.channel_axis._labels import Labels
from offramp.nets.channel_axis._moves import Axes
from offramp.nets.exits import Part, exits
from offramp.unchanged import unchanged

__all__ = ["ChannelAxis", "channel_axes", "given_for", "look"]

ChannelAxis = int | Mapping[int, int]


@dataclass(frozen=True)
class Observation:
    """What one run shows of a Tensor that a stage returns.

    Attributes:
        shape: Its shape.
        axes: The axes that layers read or write as that of the channels.
        floats: Whether it holds floats.
        learned: Whether a parameter has had a part in it, so that gradients can flow through it.
    """

    shape: tuple[int, ...]
    axes: frozenset[int]
    floats: bool
    learned: bool

    def has_channels(self, *, main: bool) -> bool:
        """Whether there is a channel axis to know: not in integers, nor in what has no gradient."""
        return self.floats and len(self.shape) > 1 and (main or self.learned or len(self.axes) == 1)

    def axis(self, exit: int | None, given: int | None, *, main: bool = True) -> int:
        """The channel axis: the one that layers use, unless another is given for a main Tensor.

        Args:
            exit: Whose feature it is; None: that of a trunk without exits.
            given: The axis that counts where the layers do not tell.
            main: Whether it is the Tensor that the feature is about.

        Raises:
            UserError: The layers do not tell, or not the same, and none is given; or there is no such axis.
        """
        certain = {1} if len(self.shape) == 2 else self.axes
        if len(certain) == 1 and (given is None or not main or len(self.shape) == 2):
            return next(iter(certain))
        feature = "the trunk's feature" if exit is None else f"the feature of exit {exit}"
        if given is None:
            why = f"layers read or write axes {sorted(self.axes)}" if self.axes else "no layer tells"
            form = "such as 1" if exit is None else f"an axis for all exits or such as {{{exit}: 1}}"
            raise UserError(
                f"which axis of {feature}, {[*self.shape]}, holds its channels is not "
                f"certain ({why}); say it by `channel_axis=`, {form}"
            )
        axis = given if given >= 0 else given + len(self.shape)
        if not 0 < axis < len(self.shape):
            raise UserError(
                f"channel_axis={given} is no channel axis of {feature}, {[*self.shape]}; "
                f"give one from 1 to {len(self.shape) - 1}"
            )
        return axis


def look(
    stages: Sequence[nn.Module], heads: Sequence[nn.Module], sample: Any
) -> list[tuple[Observation, ...]]:
    """Run stages and heads once and see what reads and writes each Tensor between the stages.

    A convolution or batch norm has its channels in axis 1, a linear layer or layer norm in the last one; what
    comes from or goes to such a layer through elementwise functions, poolings and moved axes has them there
    too. Everything is left as it was.

    Args:
        stages: K modules in a row.
        heads: What reads the features too: K-1 modules, or none.
        sample: An input of the first stage.

    Returns:
        For exits 1 to K-1, the Tensors of the feature.
    """
    labels = Labels()
    features: list[Sequence[Any]] = []
    readers = [*heads, *(nn.Identity() for _ in stages[len(heads) :])]
    with unchanged(*stages, *heads), torch.no_grad(), plain_attention():
        for module in (*stages, *heads):
            module.eval()

        def call(part: Part, module: nn.Module, *inputs: Any) -> Any:
            output = module(*inputs)
            if part == "stage" and len(features) < len(stages) - 1:
                features.append(scales_of(output))
                labels.enter(len(features) - 1, features[-1])
            return output

        with labels:
            for _ in exits(stages, [], readers, sample, call):
                pass
    return [
        tuple(
            Observation(
                tuple(t.shape),
                frozenset(labels.channel_axes[k, i]),
                t.is_floating_point(),
                labels.of(t).learned,
            )
            for i, t in enumerate(feature)
        )
        for k, feature in enumerate(features)
    ]


def channel_axes(
    features: Sequence[Sequence[Observation]], given: ChannelAxis | None = None, *, exits: bool = True
) -> list[Axes]:
    """The channel axis of every Tensor of the features, positive.

    Args:
        features: What :func:`look` returns.
        given: What counts where that is not certain: one axis for all exits, or a mapping from exit (from 1).
        exits: Whether messages speak of exits, or of a trunk.

    Returns:
        A tuple for each exit, with None for a Tensor that no gradient flows through, or that has no axis but
        the batch's.

    Raises:
        UserError: An axis is neither certain nor given, or given and not there.
    """
    _check_given(given, len(features))
    axes = []
    for k, feature in enumerate(features, start=1):
        main = _main(feature)
        axes.append(
            tuple(
                tensor.axis(k if exits else None, given_for(given, k), main=tensor is main)
                if tensor.has_channels(main=tensor is main)
                else None
                for tensor in feature
            )
        )
    return axes


def _main(feature: Sequence[Observation]) -> Observation:
    """The Tensor whose channels must be known: the last of floats that layers have made."""
    made = [tensor for tensor in feature if tensor.floats and tensor.learned and len(tensor.shape) > 1]
    return (made or feature)[-1]


def given_for(given: ChannelAxis | None, exit: int) -> int | None:
    """The given channel axis of an exit (from 1); None if none is given for it."""
    return given.get(exit) if isinstance(given, Mapping) else given


def _check_given(given: ChannelAxis | None, exits: int) -> None:
    if isinstance(given, Mapping) and (strange := [exit for exit in given if not 1 <= exit <= exits]):
        raise UserError(
            f"channel_axis= has an entry for exit {strange[0]}; give entries for exits 1 to {exits}"
        )
