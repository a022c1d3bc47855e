"""Whether a backbone that was cut gives what it gives in one piece."""

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

from offramp.nets.attaching._interface import STAGES, call_with, logits_of
from offramp.nets.attaching._parts import Parts

__all__ = ["difference"]

_Key = tuple[nn.Module, str, int]  # a module, whether it reads or returns, and how often it had before


def difference(parts: Parts, backbone: nn.Module, samples: Sequence[Any], *, own: bool) -> str | None:
    """How the last exit differs from the backbone, if it does, on some samples and in both modes.

    What of the backbone is in no stage is in the other mode meanwhile, since nothing will ever set it.

    Args:
        parts: The backbone, cut.
        backbone: The whole. Run both under :func:`~offramp.unchanged.unchanged`.
        samples: What to run them on.
        own: Whether the stages are the user's own.
    """
    for mode in (True, False):
        for sample in samples:
            backbone.train(mode)
            whole = logits_of(_drawn(partial(call_with, backbone, sample)))
            _set_mode(parts, backbone, mode)
            split = _drawn(partial(_in_a_row, [*parts.stages, parts.end], sample))
            if not _close(split, whole):
                name, when = type(backbone).__name__, "train" if mode else "eval"
                if own:
                    return f"{_first(parts, backbone, mode, sample)} in {name}'s own forward in {when} mode"
                return (
                    f"{name} in {when} mode gives other logits split than whole; move what its forward "
                    f"draws, counts or remembers into a module of its own, or {STAGES}"
                )
    return None


def _close(split: Any, whole: Tensor) -> bool:
    """Equal bit for bit, but for devices where one layer run twice differs in its last bits."""
    slack = torch.finfo(whole.dtype).eps ** 0.5 * whole.nan_to_num().abs().max().item()
    return (
        isinstance(split, Tensor)
        and split.shape == whole.shape
        and torch.allclose(split, whole, rtol=0, atol=slack, equal_nan=True)
    )


def _set_mode(parts: Parts, backbone: nn.Module, mode: bool) -> None:
    backbone.train(not mode)
    for module in (*parts.stages, parts.end):
        module.train(mode)


def _drawn(run: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        return run()


def _in_a_row(stages: Sequence[nn.Module], x: Any) -> Any:
    for stage in stages:
        x = stage(x)
    return x


def _first(parts: Parts, backbone: nn.Module, mode: bool, sample: Any) -> str:
    """The stage in which a module of the backbone first reads or returns another Tensor than in the whole."""
    names = {module: name for name, module in backbone.named_modules()}
    backbone.train(mode)
    whole = dict(_seen(backbone, lambda _: call_with(backbone, sample)))
    _set_mode(parts, backbone, mode)
    stages = [*parts.stages[:-1], nn.Sequential(parts.stages[-1], parts.end)]
    outputs, ends = [sample], []

    def in_stages(seen: Sequence[Any]) -> None:
        for stage in stages:
            outputs.append(stage(outputs[-1]))
            ends.append(len(seen))

    for position, (key, tensors) in enumerate(_seen(backbone, in_stages)):
        if key not in whole or not _same(tensors, whole[key]):
            (module, does, _), k = key, bisect_right(ends, position) + 1
            name = f"'{names[module]}'"
            if does == "reads" and k > 1 and _same(tensors, _tensors(outputs[k - 1])):
                return _told(k - 1, f"it returns another Tensor than {name} reads")
            return _told(k, f"{name} {does} another Tensor there than")
    return _told(len(stages), "it returns other logits than are made")


def _told(stage: int, why: str) -> str:
    return f"stage {stage} is the first that differs: {why}"


def _seen(backbone: nn.Module, run: Callable[[Sequence[Any]], Any]) -> list[tuple[_Key, list[Tensor]]]:
    """What each module of the backbone reads and returns meanwhile, in order."""
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
        _drawn(lambda: run(seen))
    return seen


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))
