"""The forward pass of a multi-exit net, one exit at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

__all__ = ["Exit", "HandedOn", "Part", "exits", "first_of_chain", "handed_on", "reads_previous"]

Part = Literal["stage", "fork", "head"]


class Exit(NamedTuple):
    """What a forward pass gives at one exit, in the graph.

    Attributes:
        number: Which exit, from 1.
        trunk: What its stage returned, and its fork got.
        logits: ``[N, classes]``.
        feature: What the linear layer that made the logits read, ``[N, D]``. Only in a pass that keeps it,
            and None where no linear layer makes the logits.
        layer: That linear layer.
    """

    number: int
    trunk: Any
    logits: Tensor
    feature: Tensor | None = None
    layer: nn.Linear | None = None


class HandedOn(NamedTuple):
    """Output of a head whose logits are not what the next head reads.

    Attributes:
        logits: ``[N, classes]``.
        handed: What the next head reads in place of the logits, ``[N, ...]``.
    """

    logits: Tensor
    handed: Tensor


def exits(
    stages: Iterable[nn.Module],
    forks: Sequence[nn.Module] | nn.ModuleList,
    heads: Iterable[nn.Module],
    x: Any,
    call: Callable[..., Any] | None = None,
) -> Iterator[Exit]:
    """Run stages, forks and heads in order; nothing that follows an exit runs before it is asked for.

    Args:
        stages: K modules.
        forks: K-1 modules, one behind each stage but the last; or none, and features go on as they are.
        heads: K modules. One that has ``reads_previous = True`` is called with the logits of the exit before,
            or what its head has :class:`HandedOn`, as a second argument, in the graph; the first exit's is
            called with None.
        x: The input of the first stage.
        call: Calls each part: ``call("stage" | "fork" | "head", module, *inputs)``.
    """
    run = _plain if call is None else call
    previous: Tensor | None = None
    for k, (stage, head) in enumerate(zip(stages, heads, strict=True)):
        trunk = to_head = x = run("stage", stage, x)
        if k < len(forks):
            to_head, x = run("fork", forks[k], trunk)
        before = [previous] if reads_previous(head) else []
        logits, previous = handed_on(run("head", head, to_head, *before))
        yield Exit(k + 1, trunk, logits)


def handed_on(returned: Any) -> HandedOn:
    """The logits that a head has returned, and what the next one reads: these too, unless it says so."""
    return returned if isinstance(returned, HandedOn) else HandedOn(returned, returned)


def first_of_chain(heads: Sequence[nn.Module] | nn.ModuleList, k: int) -> int:
    """The first of the heads that make the logits of head k (from 0): itself if it reads no other's."""
    while k and reads_previous(heads[k]):
        k -= 1
    return k


def reads_previous(head: nn.Module) -> bool:
    """Whether a head asks for the logits of the exit before."""
    return bool(getattr(head, "reads_previous", False))


def _plain(part: Part, module: nn.Module, *inputs: Any) -> Any:
    return module(*inputs)
