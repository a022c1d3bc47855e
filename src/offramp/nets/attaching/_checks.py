"""Checks of a backbone before it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError, guess, shown
from offramp.nets.attaching._interface import call_with, check_logits

__all__ = ["check_names", "run_whole"]


def check_names(backbone: nn.Module, at: Sequence[str] | None) -> None:
    """Check that ``at`` names modules of the backbone.

    Raises:
        UserError: It does not.
    """
    if isinstance(at, str) or not isinstance(at, Sequence) or {*map(type, at)} != {str}:
        raise UserError(
            f"at={shown(at)} names no place for an exit; give a list of module names, such as at=['layer1']"
        )
    for name in at:
        check_name(backbone, name)


def check_name(backbone: nn.Module, name: str) -> None:
    """Check that the backbone has a module of that name.

    Raises:
        UserError: It has none.
    """
    names = [name for name, _ in backbone.named_modules(remove_duplicate=False) if name]
    if name not in names:
        raise UserError(
            f"{type(backbone).__name__} has no module '{name}'{guess(name, names)}; "
            f"it has: {', '.join(child for child, _ in backbone.named_children())}"
        )


def run_whole(backbone: nn.Module, sample: Any, random: bool) -> Tensor:
    """The logits of the backbone in eval mode; it runs in train mode too.

    Args:
        backbone: Run it under :func:`~offramp.unchanged.unchanged`.
        sample: An input.
        random: Whether the sample is one of ours rather than the user's example.

    Raises:
        UserError: It does not run, or returns no logits.
    """
    with torch.no_grad():
        for mode in (True, False):
            try:
                output = call_with(backbone.train(mode), sample)
            except Exception as error:  # whatever a user's forward raises
                raise UserError(_cannot_run(backbone, sample, random, error)) from error
            logits = check_logits(backbone, output)
    return logits


def _cannot_run(backbone: nn.Module, sample: Any, random: bool, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    name = type(backbone).__name__
    config = getattr(backbone, "config", None)
    if not random and "padding token" in reason and getattr(config, "pad_token_id", 0) is None:
        return f"{name} cannot run on the example: {reason} Set its config.pad_token_id to the tokenizer's"
    if not random:
        return f"{name} cannot run on the example: {reason}; pass one that it runs on as `example=`"
    batch = f"a {sample.dtype} batch {[*sample.shape]}"
    if any(isinstance(module, nn.Embedding) for module in backbone.modules()):
        remedy = "pass token ids [N, T], or all that it reads, as `example=`"
    elif "required positional argument" in reason:
        remedy = "pass all of its inputs, each with a batch axis, as `example=(x, ...)`"
    elif any(isinstance(module, (nn.Conv2d, nn.Conv3d)) for module in backbone.modules()):
        remedy = "pass the shape of its input as input_size=(channels, height, width)"
    else:
        remedy = "pass the shape of one input as `input_size=`, or an input as `example=`"
    return f"{name} cannot run on {batch}: {reason}; {remedy}"
