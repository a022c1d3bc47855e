"""The heads of a backbone that was cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.nets.attaching._checks import check_values
from offramp.nets.attaching._parts import Parts
from offramp.nets.attaching._pooled_head import Last, pooled_head
from offramp.nets.attaching._tokens import Tokens, token_pools
from offramp.nets.channel_axis import ChannelAxis, given_for, look
from offramp.nets.exits import reads_previous
from offramp.unchanged import unchanged

__all__ = ["make_heads"]


def make_heads(
    parts: Parts,
    sample: Any,
    classes: int,
    channel_axis: ChannelAxis | None,
    given: Sequence[nn.Module] | None,
    tokens: Tokens | None = None,
    pool: str | None = None,
) -> list[nn.Module]:
    """A head for each exit but the last: the user's own, or pooling and a Linear.

    Args:
        parts: The backbone.
        sample: An input for it.
        classes: How many logits.
        channel_axis: What the user says about channels.
        given: The user's own heads.
        tokens: The tokens in the sample, if it has any.
        pool: How heads pool over tokens (:func:`~offramp.nets.attaching._tokens.token_pools`).

    Raises:
        UserError: They do not fit, or it is not certain which axis has the channels, or what is padding.
    """
    if given is not None:
        _check(given, parts, classes)
        return [_of_last(head) if carry else head for head, carry in zip(given, parts.carry, strict=True)]
    axes = [
        seen[-1].axis(exit, given_for(channel_axis, exit))
        for exit, seen in enumerate(look(parts.stages, [], sample), start=1)
    ]
    heads = []
    pools = token_pools(parts, sample, tokens, axes, pool)
    for output, axis, carry, over_tokens in zip(parts.outputs, axes, parts.carry, pools, strict=True):
        head = pooled_head(output, axis, classes, over_tokens)
        heads.append(_of_last(head) if carry and over_tokens is None else head)
    return heads


class _LastAndPrevious(nn.Module):
    """A head that reads the last Tensor of a feature, and the logits of the exit before."""

    reads_previous = True

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, feature: Sequence[Tensor], logits: Tensor | None) -> Tensor:
        output: Tensor = self.head(feature[-1], logits)
        return output


def _of_last(head: nn.Module) -> nn.Module:
    """A head that reads the last Tensor of a feature that carries others along."""
    if reads_previous(head):
        return _LastAndPrevious(head)
    return nn.Sequential(Last(), *(head if type(head) is nn.Sequential else [head]))


def _check(heads: Sequence[nn.Module], parts: Parts, classes: int) -> None:
    if len(heads) != len(parts.outputs):
        raise UserError(
            f"heads= has {len(heads)} heads for {len(parts.outputs)} exits before the last; give one for each"
        )
    logits: Any = None
    for k, (head, output) in enumerate(zip(heads, parts.outputs, strict=True), start=1):
        if not isinstance(head, nn.Module):
            raise UserError(f"head {k} is a {type(head).__name__}; give an nn.Module, such as nn.Sequential")
        check_values(head)
        try:
            with unchanged(head), torch.no_grad():
                previous = [logits] if reads_previous(head) else []
                logits = head.eval()(output, *previous)
        except Exception as error:  # whatever a user's forward raises
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"head {k} cannot run on what its stage returns, {[*output.shape]}: {reason}"
            ) from error
        if not isinstance(logits, Tensor) or logits.shape != (len(output), classes):
            kind = [*logits.shape] if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise UserError(f"head {k} returns {kind}, not logits [N, {classes}]; give one that returns them")
