"""Where one Tensor crosses: modules whose output is all that the rest of a backbone reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.errors import UserError
from offramp.flops import Tally, without_formula
from offramp.nets.attaching._interface import call_with, logits_of
from offramp.nets.attaching._parts import one_tensor
from offramp.unchanged import unchanged

__all__ = ["CleanCut", "clean_cuts"]

_Source = tuple[Any, int]  # where a Tensor comes from: a node of autograd's graph, and which of its outputs


@dataclass(frozen=True)
class CleanCut:
    """A module whose output is all that the rest of a backbone reads.

    Attributes:
        name: Name of the module.
        macs: Multiply-accumulates of the backbone up to there.
        spread: In how many axes the output has more than one value for each sample.
        source: Where the output comes from.
    """

    name: str
    macs: int
    spread: int
    source: _Source


def clean_cuts(backbone: nn.Module, sample: Any) -> tuple[list[CleanCut], int]:
    """The clean cuts in the order they run, no two with the same FLOPs before them, and those of the whole.

    Looked for is where a single Tensor crosses, in the graph that autograd makes of one forward pass. What
    has no gradient may cross too: masks of token ids do. Of cuts with the same FLOPs before them, as behind
    a convolution, its norm layer and its activation, the outermost module is taken, of several the last one.
    Cuts are left out where nothing has been computed, or nothing remains but the last layer.

    Args:
        backbone: The backbone, which is left as it was.
        sample: An input for it.

    Raises:
        UserError: FLOPs cannot be counted, or the backbone does not run with gradients.
    """
    tally = Tally()
    start = _node(torch.zeros((), requires_grad=True))._sequence_nr()
    inputs = pytree.tree_map_only(Tensor, _watched, sample)
    try:
        with (
            unchanged(backbone),
            torch.enable_grad(),
            _differentiable(backbone),
            tally.at_work(),
            _returned(backbone.eval(), inputs, lambda: tally.macs) as (candidates, marks),
        ):
            logits = logits_of(call_with(backbone, inputs))
    except Exception as error:  # whatever a user's forward raises that runs under no_grad only
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{type(backbone).__name__} does not run with gradients, which tell where one Tensor crosses: "
            f"{reason}; name the modules to cut after, at=[...]"
        ) from error
    if tally.hiding:
        raise UserError(
            f"equal shares of the FLOPs of {type(backbone).__name__} are not known: "
            f"{without_formula(tally.hiding)}; or name the modules to cut after, at=[...]"
        )
    if logits.grad_fn is None:  # it runs under no_grad
        return [], tally.macs
    end = max((mark for mark in marks if mark < tally.macs), default=0)  # where the last layer begins
    reads = _last_reads((logits.grad_fn, logits.output_nr), start)
    clean = [cut for cut in candidates if 0 < cut.macs < end and _is_clean(cut, reads)]
    alike = [[*group] for _, group in groupby(clean, lambda cut: cut.macs)]
    return [max(reversed(group), key=_preference) for group in alike], tally.macs


def _preference(cut: CleanCut) -> tuple[bool, int]:
    """Rank of a cut among those with equal FLOPs before: maps not pooled yet win, then outer modules."""
    return cut.spread > 1, -cut.name.count(".")


@contextmanager
def _differentiable(backbone: nn.Module) -> Iterator[None]:
    """Have frozen parameters take part in the graph in the ``with`` block."""
    frozen = [p for p in backbone.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_()
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _node(leaf: Tensor) -> Any:
    """A new node of autograd's graph."""
    return leaf.clone().grad_fn


def _watched(tensor: Tensor) -> Tensor:
    """A copy of an input with a place in the graph, if it has floats."""
    return tensor.detach().requires_grad_().clone() if tensor.is_floating_point() else tensor


@contextmanager
def _returned(
    backbone: nn.Module, inputs: Any, macs: Callable[[], int]
) -> Iterator[tuple[list[CleanCut], list[int]]]:
    """What exits could read, of modules that run once, and the FLOPs at the end of every module."""
    size = len(next(leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)))
    candidates: list[CleanCut] = []
    marks: list[int] = []
    runs: Counter[str] = Counter()

    def note(name: str, output: Any) -> None:
        runs[name] += 1
        marks.append(macs())
        output = one_tensor(output)
        if isinstance(output, Tensor) and output.ndim > 1 and len(output) == size and output.grad_fn:
            spread = sum(size > 1 for size in output.shape[1:])
            candidates.append(CleanCut(name, marks[-1], spread, (output.grad_fn, output.output_nr)))

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, output: note(name, output)

    with ExitStack() as stack:
        for name, module in backbone.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                stack.callback(module.register_forward_hook(hook(name)).remove)
        yield candidates, marks
    candidates[:] = [cut for cut in candidates if runs[cut.name] == 1]


def _last_reads(result: _Source, start: int) -> dict[_Source, int]:
    """Which node reads each Tensor that a result was made of last.

    Args:
        result: Where the result comes from. Nodes have numbers, in the order in which they were made.
        start: What was made before this one is constant.
    """
    reads = {result: result[0]._sequence_nr() + 1}
    nodes, met = [result[0]], {result[0]}
    while nodes:
        reader = nodes.pop()
        for node, number in reader.next_functions:
            if node is None or hasattr(node, "variable") or node._sequence_nr() < start:
                continue  # nothing, a parameter, or a constant
            reads[node, number] = max(reads.get((node, number), 0), reader._sequence_nr())
            if node not in met:
                met.add(node)
                nodes.append(node)
    return reads


def _is_clean(cut: CleanCut, reads: Mapping[_Source, int]) -> bool:
    """Whether nothing made before a cut is read behind the cut, but the cut's own output."""
    made = cut.source[0]._sequence_nr()
    return cut.source in reads and all(
        last <= made or source == cut.source or source[0]._sequence_nr() > made
        for source, last in reads.items()
    )
