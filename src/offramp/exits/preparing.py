"""The segments of a net made ready for inference: copied, folded, and checked against the net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.copying import deep_copy
from offramp.errors import UserError, shown
from offramp.exits._folding import close, fold
from offramp.exits.policy import Policy
from offramp.exits.rows import Flow, batched_leaves, has_blocks, memory
from offramp.exits.segments import Segment, segments
from offramp.nets import MultiExitNet
from offramp.unchanged import unchanged

__all__ = ["PreparedSegment", "prepared"]


class PreparedSegment(NamedTuple):
    """A segment ready for inference.

    Attributes:
        segment: The segment.
        batched: Which leaves of the feature behind it have a row for each sample.
        movable: Which of these may be written over where they are not the input's, since no module has them.
    """

    segment: Segment
    batched: list[bool]
    movable: list[bool]


def prepared(net: MultiExitNet, policy: Policy, *, eager: bool) -> list[PreparedSegment]:
    """Copy the segments of a net, and fold them as far as they give the logits that the net gives.

    Args:
        net: The net, which stays as it was.
        policy: Says at which exits samples may leave.
        eager: The segments will run as they are, and not be compiled.

    Raises:
        UserError: An exit gives no logits of classes, or the policy is for another number of them; the logits
            of the net's stages and heads, run apart, are not the net's; or samples of a batch do not stay
            apart in them.
    """
    sample = net.sample(3)
    with unchanged(net), torch.no_grad():
        logits = net.eval()(pytree.tree_map_only(Tensor, torch.clone, sample))
    policy.check_classes(logits[-1].shape[-1])
    wrong = None
    for folded in (True, False):
        # each by itself: what one does to a layer must not reach another that shares it
        parts = [deep_copy(part) for part in segments([*net.stages], [*net.heads], policy.evaluated)]
        for part in parts:
            part.eval()
            for parameter in part.parameters():
                parameter.requires_grad_(False)
        ready, wrong = _checked(parts, sample, logits, folded=folded, eager=eager)
        if wrong is None:
            _check_logits(logits)
            return ready
    raise UserError(
        f"the logits of exit {wrong} are not the net's when its stages and heads run one after another; "
        "build heads that write over what they read with inplace=False, and take hooks and changes of inputs "
        "from the net into its stages"
    )


@torch.inference_mode()
def _checked(
    parts: Sequence[Segment], x: Any, logits: Sequence[Tensor], *, folded: bool, eager: bool
) -> tuple[list[PreparedSegment], int | None]:
    """Run the segments on two and on three samples.

    Args:
        parts: The segments.
        x: Three samples.
        logits: What the net gives at every exit.
        folded: Fold the segments first, in place.
        eager: See :func:`prepared`.

    Returns:
        The segments, and the first exit whose logits are not the net's.
    """
    x = pytree.tree_map_only(Tensor, torch.clone, x)
    few, many = Flow(pytree.tree_map_only(Tensor, lambda leaf: leaf[:2].clone(), x)), Flow(x)
    ready: list[PreparedSegment] = []
    for part in parts:
        if folded:
            fold(part, few.x, few.handed, eager=eager)
        runs = [part(flow.x, flow.handed) for flow in (few, many)]
        few, many = (Flow(x, handed) for x, _, handed in runs)
        batched = batched_leaves([few.x, many.x], [2, 3])
        for of_few, of_many in zip(*(run[1:] for run in runs), strict=True):  # logits, and what is handed on
            _check_rows(part, of_few, of_many, batched)
        if part is not parts[-1]:
            _check_axes(part, few, many, batched)
        if not close(logits[part.exit - 1], runs[1][1]):
            return ready, part.exit
        leaves = zip(batched, pytree.tree_leaves(many.x), strict=True)
        held = memory([vars(module) for part in parts for module in part.modules()])
        movable = [eager and has and has_blocks(leaf) and not memory(leaf) & held for has, leaf in leaves]
        ready.append(PreparedSegment(part, batched, movable))
    return ready, None


def _check_logits(logits: Sequence[Tensor]) -> None:
    """Check that all exits give a number for each of the same classes."""
    for exit, each in enumerate(logits, start=1):
        if each.ndim != 2 or len(each[0]) != len(logits[-1][0]):
            raise UserError(
                f"exit {exit} gives {[*each.shape]} for 3 samples, and samples leave by logits [N, classes], "
                "as many of every exit; mend its head"
            )


def _check_rows(part: Segment, a: Any, b: Any, batched: Sequence[bool]) -> None:
    """Check that what a head gives for two and for three samples has a row for each, and of it alone."""
    shapes = [[*given.shape] if isinstance(given, Tensor) else None for given in (a, b)]
    if None in shapes or (len(a), len(b)) != (2, 3) or not any(batched):
        raise UserError(
            f"exit {part.exit} gives logits {shapes[0]} for 2 samples and {shapes[1]} for 3: the first axis "
            "of feature and logits is not the batch; permute them at the end of the stage"
        )
    if not close(a, b[:2]):
        raise UserError(
            f"the logits of exit {part.exit} for a sample depend on the other samples of its batch, in eval "
            "mode too; build norm layers with track_running_stats=True, attention and recurrent layers with "
            "batch_first=True"
        )


def _check_axes(part: Segment, few: Flow, many: Flow, batched: Sequence[bool]) -> None:
    """Check that what a feature has no row of for each sample is the same for two and for three samples."""
    leaves = zip(pytree.tree_leaves(few.x), pytree.tree_leaves(many.x), batched, strict=True)
    for two, three, has in leaves:
        if not has and getattr(two, "shape", two) != getattr(three, "shape", three):
            raise UserError(
                f"the feature of exit {part.exit} holds {_form(two)} for 2 samples and {_form(three)} for 3: "
                "its first axis is not the batch; permute it at the end of the stage and back in the next"
            )


def _form(leaf: Any) -> str:
    return f"a Tensor {[*leaf.shape]}" if isinstance(leaf, Tensor) else shown(leaf)
