"""How a backbone takes its inputs, the logits in what it returns, and where a refusal points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from offramp.errors import UserError, an_object

__all__ = ["STAGES", "call_with", "check_logits", "logits_of"]

STAGES = (
    "give its stages yourself: attach(backbone, stages=[...])"  # what works where a cut at a name does not
)


def call_with(model: nn.Module, inputs: Any) -> Any:
    """``model`` called with one input, with a tuple of them, or with a dict of named ones."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def logits_of(output: Any) -> Any:
    """The output itself, or what a dict, a dataclass or a named tuple calls ``logits``."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        return output.get("logits", output)
    return getattr(output, "logits", output)


def check_logits(backbone: nn.Module, output: Any) -> Tensor:
    """The logits ``[N, classes]`` that a backbone returned.

    Raises:
        UserError: They are none, or come with those of auxiliary heads.
    """
    name = type(backbone).__name__
    if hasattr(output, "aux_logits") or hasattr(output, "aux_logits1"):
        raise UserError(
            f"{name} returns the logits of auxiliary heads in training; "
            "build it with aux_logits=False, since exits take their place"
        )
    logits = logits_of(output)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        tensor = isinstance(logits, Tensor)
        kind = f"{logits.dtype} {[*logits.shape]}" if tensor else an_object(logits)
        raise UserError(
            f"{name} returns {kind}, not logits [N, classes]; wrap it in a module that returns them"
        )
    return logits
