"""Named inputs of a net, checked against the example that it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from offramp.errors import UserError, an_object, guess, shown
from offramp.nets.sample import Example

__all__ = ["named_inputs"]


def named_inputs(x: Any, example: Example | None) -> Any:
    """The inputs as a dict in the example's order; as they are where the example has no names.

    Args:
        x: What a net is called with.
        example: An input for it.

    Raises:
        UserError: An input is missing or unknown, no Tensor, of another kind or number of axes than in the
            example; or they differ in the number of samples, or of tokens.
    """
    if not isinstance(example, Mapping):
        return x
    names = ", ".join(example)
    if not isinstance(x, Mapping):
        raise UserError(f"the net reads {names} by name, and got {an_object(x)}; give a dict of Tensors")
    for name in x:
        if name not in example:
            known = f"the net reads {names}; leave {shown(name)} out"
            raise UserError(
                f"no input {shown(name)}{guess(name, example)}; {known}, or attach with it in example="
            )
    missing = [name for name in example if name not in x]
    if missing:
        raise UserError(f"input {shown(missing[0])} is missing; the net reads {names}")
    for name, like in example.items():
        _check(name, x[name], like)
    if not torch.compiler.is_exporting():  # when sizes are symbols, which are not compared
        _check_sizes(x, example)
    return {name: x[name] for name in example}


def _check_sizes(x: Mapping[str, Tensor], example: Mapping[str, Tensor]) -> None:
    sizes = {name: len(x[name]) for name in example}
    if len({*sizes.values()}) > 1:
        raise UserError(f"the inputs have different numbers of samples, {sizes}; give the same of each")
    by_token = [name for name, like in example.items() if like.ndim == 2 and not like.is_floating_point()]
    alike = [name for name in by_token if example[name].shape == example[by_token[0]].shape]
    shapes = {name: [*x[name].shape] for name in alike}
    if len({*map(tuple, shapes.values())}) > 1:
        raise UserError(f"the inputs have different numbers of tokens, {shapes}; pad them to one length")


def _check(name: str, given: Any, like: Tensor) -> None:
    if not isinstance(given, Tensor):
        raise UserError(
            f"input {shown(name)} is {an_object(given)}, not a Tensor; give a Tensor {_form(like)}, "
            "from a tokenizer by return_tensors='pt'"
        )
    if given.ndim != like.ndim or given.is_floating_point() != like.is_floating_point():
        raise UserError(
            f"input {shown(name)} is {given.dtype} {[*given.shape]}; give {like.dtype} {_form(like)}, as in "
            "the example that the net was made with"
        )


def _form(like: Tensor) -> str:
    return f"[N{', ...' if like.ndim > 2 else ', T' if like.ndim == 2 else ''}]"
