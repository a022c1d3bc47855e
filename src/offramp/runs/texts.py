"""Texts for a net: the inputs that it reads, and whether it takes them, padded too."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from offramp.errors import UserError, shown
from offramp.modes import evaluating
from offramp.nets import Net
from offramp.nets.sample import sample_of

if TYPE_CHECKING:
    from offramp.data import OpenedData, TextSplit

__all__ = ["check_tokenizer", "for_net", "outputs_for_text"]


def for_net(net: Net, data: OpenedData[Any]) -> OpenedData[Any]:
    """The data as the net reads them: texts with the inputs alone that it has; images as they are.

    Raises:
        UserError: The net reads no named inputs, or other ones, or fails on the texts; or padding is another
            token for it than for the tokenizer.
    """
    from offramp.data import JointData, TextData

    if isinstance(data, JointData):
        return data.each(lambda each: for_net(net, each))
    if not isinstance(data, TextData):
        return data
    sample, given = sample_of(net, 1), ", ".join(data.names)
    if not isinstance(sample, Mapping):
        raise UserError(
            f"the tokenizer gives {given}, and the net reads no named inputs; attach it so that it does, by "
            "example={'input_ids': ..., 'attention_mask': ...}"
        )
    missing = [name for name in sample if name not in data.names]
    if missing:
        raise UserError(
            f"the net reads {shown(missing[0])}, and the tokenizer gives {given}; attach the net with these "
            "alone, or take the tokenizer that it was made for"
        )
    data = data.only([*sample])
    notes = [
        note for split in (data.train, data.val, data.test) for note in _about_padding(net, split, data.name)
    ]
    if new := [note for note in notes[:1] if note not in data.notes]:
        data = copy.copy(data)
        data.notes += tuple(new)
    return data


def outputs_for_text(net: Net, split: TextSplit, rows: list[int], name: str) -> list[Tensor]:
    """The net's outputs for some texts, in eval mode.

    Args:
        net: The net.
        split: Where they are.
        rows: Which of them.
        name: What an error calls the data.

    Raises:
        UserError: The net fails on them.
    """
    device = next(net.parameters()).device
    batch = {key: x.to(device) for key, x in split.tokens.padded(torch.tensor(rows)).items()}
    with torch.no_grad(), evaluating(net):
        try:
            return list(net(batch))
        except UserError:  # says what to do itself
            raise
        except (IndexError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            tokens = int(split.tokens.lengths[rows].max())
            raise UserError(
                f"the net cannot take texts of {tokens} tokens, as {name} has ({reason}); cut "
                "them by `max_tokens=...` to what it takes, or take the tokenizer that it was made for"
            ) from None


def _about_padding(net: Net, split: TextSplit, name: str) -> list[str]:
    """A note, if the outputs for the shortest text of a split depend on padding."""
    lengths = split.tokens.lengths
    if not len(lengths):
        return []
    short, long = int(lengths.argmin()), int(lengths.argmax())
    together, alone = (outputs_for_text(net, split, rows, name) for rows in ([short, long], [short]))
    if all(_close(one[0], other[0]) for one, other in zip(together, alone, strict=True)):
        return []
    pad = split.tokens.pad.get("input_ids")
    configs = [getattr(module, "config", None) for module in net.modules()]
    others = [getattr(config, "pad_token_id", None) for config in configs]
    others = [other for other in others if other not in (None, pad)]
    if others:
        raise UserError(
            f"padding is token {pad} for the tokenizer and {others[0]} for the net, whose outputs change "
            f"with it; set the net's config.pad_token_id to {pad} before exits are attached"
        )
    return [
        "the net's outputs for a text change with its padding, and so with the batch that it is in; where "
        "they should not, mask the padding by attention_mask, or let the tokenizer pad on the right"
    ]


def _close(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    slack = torch.finfo(one.dtype).eps ** 0.5 * float(one.abs().max())
    return torch.allclose(one, other, rtol=0, atol=slack)


def check_tokenizer(data: OpenedData[Any], recorded: Mapping[str, Any]) -> None:
    """Check that texts were read by the tokenizer of a run.

    Args:
        data: The texts.
        recorded: What the run notes of how its own were read.

    Raises:
        UserError: They were read by another one.
    """
    read = data.read
    if read is not None and read["digest"] != recorded["digest"]:
        place = read["tokenizer"] or "given"
        raise UserError(
            f"the tokenizer {place} is not the one that the run was trained with; give that one by "
            "`tokenizer=...`"
        )
