"""Where a user's own stages first differ from the backbone."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.nets.attaching._in_parts import set_mode
from offramp.nets.attaching._interface import call_with
from offramp.nets.attaching._parts import Parts
from offramp.unchanged import unchanged

__all__ = ["first_difference"]

_Key = tuple[nn.Module, str, int]  # a module, whether it reads or returns, and how often it had before


def first_difference(parts: Parts, backbone: nn.Module, training: bool, sample: Any) -> str:
    """The stage in which a module of the backbone first reads or returns another Tensor than in the whole.

    Args:
        parts: The backbone in stages of the user's own.
        backbone: The whole.
        training: The mode.
        sample: What to run them on.
    """
    names = {module: name for name, module in backbone.named_modules()}
    stages = [*parts.stages[:-1], nn.Sequential(parts.stages[-1], parts.end)]
    outputs, ends = [sample], []

    def in_stages(seen: Sequence[Any]) -> None:
        for stage in stages:
            outputs.append(stage(outputs[-1]))
            ends.append(len(seen))

    with unchanged(backbone, *stages), torch.no_grad():
        backbone.train(training)
        whole = dict(_seen(backbone, lambda _: call_with(backbone, sample)))
    with unchanged(backbone, *stages), torch.no_grad():
        set_mode(parts, backbone, training)
        split = _seen(backbone, in_stages)
    for position, (key, tensors) in enumerate(split):
        if key not in whole or not _same(tensors, whole[key]):
            (module, does, _), k = key, bisect_right(ends, position) + 1
            name = f"'{names[module]}'"
            if does == "reads" and k > 1 and _same(tensors, _tensors(outputs[k - 1])):
                return _sentence(k - 1, f"it returns another Tensor than {name} reads")
            return _sentence(k, f"{name} {does} another Tensor there than")
    return _sentence(len(stages), "it returns other logits than are made")


def _sentence(stage: int, why: str) -> str:
    return f"stage {stage} is the first that differs: {why}"


def _seen(backbone: nn.Module, run: Callable[[Sequence[Any]], Any]) -> list[tuple[_Key, list[Tensor]]]:
    """Tensors that each module of the backbone reads and returns in a run, in order."""
    seen: list[tuple[_Key, list[Tensor]]] = []
    counts: Counter[tuple[nn.Module, str]] = Counter()

    def note(does: str, module: nn.Module, *values: Any) -> None:
        seen.append(((module, does, counts[module, does]), [t.clone() for t in _tensors(values[-1])]))
        counts[module, does] += 1

    with ExitStack() as stack:
        for module in backbone.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                stack.callback(module.register_forward_pre_hook(partial(note, "reads")).remove)
                stack.callback(module.register_forward_hook(partial(note, "returns")).remove)
            torch.manual_seed(0)
        run(seen)
    return seen


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))
