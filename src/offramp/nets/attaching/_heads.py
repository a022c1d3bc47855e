"""The heads of a backbone that was cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError, an_object, guess, shown
from offramp.nets.attaching._parts import Parts
from offramp.nets.attaching._pooled_head import HEADS, LastTensor, pooled_head
from offramp.nets.attaching._tokens import POOLS, Tokens, token_pools
from offramp.nets.channel_axis import ChannelAxis, given_for, look
from offramp.nets.exits import handed_on, reads_previous
from offramp.nets.values import check_values
from offramp.unchanged import unchanged

__all__ = ["make_heads"]


def make_heads(
    parts: Parts,
    sample: Any,
    classes: int,
    channel_axis: ChannelAxis | None,
    given: Sequence[nn.Module] | None,
    tokens: Tokens | None,
    head: str | Sequence[str],
    pool: str | Sequence[str] | None,
) -> list[nn.Module]:
    """A head for each exit but the last: the user's own, or one that fits the feature.

    Args:
        parts: The backbone.
        sample: An input for it.
        classes: How many logits.
        channel_axis: What the user says about channels.
        given: The user's own heads.
        tokens: The tokens in the sample, if it has any.
        head: The kind of head, for all exits but the last or for each of them.
        pool: How heads pool over tokens, likewise (:func:`~offramp.nets.attaching._tokens.token_pools`).

    Raises:
        UserError: They do not fit, or it is not certain which axis has the channels, or what is padding.
    """
    count = len(parts.outputs)
    kinds, pools = _for_each("head", head, HEADS, count), _for_each("pool", pool, (*POOLS, None), count)
    if given is not None:
        if {*kinds, *pools} != {"linear", None}:
            raise UserError(
                "head= and pool= are for heads that offramp makes, and heads= are your own; leave them out"
            )
        _check(given, parts, classes)
        return [_of_last(head) if carry else head for head, carry in zip(given, parts.carry, strict=True)]
    axes = [
        seen[-1].axis(exit, given_for(channel_axis, exit))
        for exit, seen in enumerate(look(parts.stages, [], sample), start=1)
    ]
    over_tokens = token_pools(parts, sample, tokens, axes, pools)
    heads = []
    for exit, output in enumerate(parts.outputs, start=1):
        k = exit - 1
        try:
            made = pooled_head(output, axes[k], classes, kinds[k], over_tokens[k])
        except UserError as error:
            raise UserError(f"the feature of exit {exit} is {[*output.shape]}, and {error}") from None
        heads.append(_of_last(made) if parts.carry[k] and over_tokens[k] is None else made)
    return heads


def _for_each(name: str, given: Any, known: Sequence[str | None], count: int) -> list[Any]:
    """Give each exit but the last a word, from one for all or one for each."""
    words = [*given] if isinstance(given, (list, tuple)) else [given] * count
    for word in words:
        if not isinstance(word, str | None) or word not in known:
            there = [known for known in known if known]
            raise UserError(
                f"{name}={shown(word)} is none{guess(word, there)}; there are: {', '.join(there)}"
            )
    if len(words) != count:
        raise UserError(
            f"{name}= has {len(words)} entries for {count} exits before the last; give one for each"
        )
    return words


class _LastAndPrevious(nn.Module):
    """A head that reads the last Tensor of a feature, and the logits of the exit before."""

    reads_previous = True

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, feature: Sequence[Tensor], previous: Tensor | None) -> Any:
        return self.head(feature[-1], previous)


def _of_last(head: nn.Module) -> nn.Module:
    """A head that reads the last Tensor of a feature that carries others along."""
    if reads_previous(head):
        return _LastAndPrevious(head)
    return nn.Sequential(LastTensor(), *(head if type(head) is nn.Sequential else [head]))


def _check(heads: Sequence[nn.Module], parts: Parts, classes: int) -> None:
    if len(heads) != len(parts.outputs):
        raise UserError(
            f"heads= has {len(heads)} heads for {len(parts.outputs)} exits before the last; give one for each"
        )
    handed: Any = None
    for k, (head, output) in enumerate(zip(heads, parts.outputs, strict=True), start=1):
        if not isinstance(head, nn.Module):
            raise UserError(f"head {k} is {an_object(head)}; give an nn.Module, such as nn.Sequential")
        check_values(head)
        try:
            with unchanged(head), torch.no_grad():
                previous = [handed] if reads_previous(head) else []
                feature = output.clone()
                logits, handed = handed_on(head.eval()(feature, *previous))
        except Exception as error:  # whatever a user's forward raises
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"head {k} cannot run on what its stage returns, {[*output.shape]}: {reason}"
            ) from error
        if not isinstance(logits, Tensor) or logits.shape != (len(output), classes):
            kind = [*logits.shape] if isinstance(logits, Tensor) else an_object(logits)
            raise UserError(f"head {k} returns {kind}, not logits [N, {classes}]; give one that returns them")
        if not torch.equal(feature.nan_to_num(), output.nan_to_num()):
            raise UserError(
                f"head {k} writes over the feature that the next stage reads; build it with inplace=False"
            )
