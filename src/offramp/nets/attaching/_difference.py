"""Whether a backbone that was cut gives what it gives in one piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.nets.attaching._first_difference import first_difference
from offramp.nets.attaching._in_parts import Run, both
from offramp.nets.attaching._interface import STAGES
from offramp.nets.attaching._parts import Parts

__all__ = ["difference"]


def difference(parts: Parts, backbone: nn.Module, samples: Sequence[Any], *, own: bool) -> str | None:
    """How the parts in a row differ from the backbone, if they do.

    Compared are logits in both modes, one sample after the other, and what buffers hold then; gradients in
    train mode; and logits under autocast. All is left as it was.

    Args:
        parts: The backbone, cut.
        backbone: The whole.
        samples: What to run them on.
        own: Whether the stages are the user's own.
    """
    name = type(backbone).__name__
    tries = [*product((True, False), samples)]
    whole, split = both(parts, backbone, partial(_logits_and_buffers, backbone, tries))
    other = (key for key, a, b in zip(tries, whole[0], split[0], strict=True) if not _close(b, a))
    if own and (differing := next(other, None)):
        place, when = first_difference(parts, backbone, *differing), "train" if differing[0] else "eval"
        return f"{place} in {name}'s own forward in {when} mode"
    remedy = "move what its forward draws, counts or remembers into a module of its own"
    for training, _ in other:
        when = "train" if training else "eval"
        return f"{name} in {when} mode gives other logits split than whole; {remedy}, or {STAGES}"
    if own:
        remedy = "run in the stages under no_grad, autocast and the like what its forward runs there"
    for departure in _beyond_values(parts, backbone, samples[0], whole[1], split[1]):
        return f"{name} {departure}; {remedy}{'' if own else f', or {STAGES}'}"
    return None


def _beyond_values(
    parts: Parts,
    backbone: nn.Module,
    sample: Any,
    buffers: Mapping[str, Tensor],
    of_split: Mapping[str, Tensor],
) -> Iterator[str]:
    """Differences in gradients, buffers or precision between two runs whose logits agree."""
    for key, value in buffers.items():
        if not _close(of_split.get(key), value):
            yield f"writes something else to its buffer '{key}' split than whole"
    whole, split = both(parts, backbone, partial(_gradients, backbone, sample))
    if whole is not None:
        yield from _other_gradients(whole, split)
    theirs, ours = both(parts, backbone, partial(_logits_under_autocast, sample))
    if theirs is not None and not _close(ours, theirs):
        yield "gives other logits split than whole under autocast"


def _logits_and_buffers(
    backbone: nn.Module, tries: Sequence[tuple[bool, Any]], run: Run
) -> tuple[list[Any], dict[str, Tensor]]:
    with torch.no_grad():
        logits = [run(training, sample) for training, sample in tries]
    return logits, {name: buffer.clone() for name, buffer in backbone.named_buffers()}


def _logits_under_autocast(sample: Any, run: Run) -> Any:
    """Logits in train mode under autocast; None where the backbone cannot run so."""
    device = next(leaf.device.type for leaf in pytree.tree_leaves(sample) if isinstance(leaf, Tensor))
    if not torch.amp.is_autocast_available(device):
        return None
    try:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            return run(True, sample)
    except Exception:  # whatever a user's forward raises when it gets bfloat16
        return None


def _close(split: Any, whole: Tensor) -> bool:
    """Equal bit for bit, but for devices where one layer run twice differs in its last bits."""
    if not isinstance(split, Tensor) or (split.shape, split.dtype) != (whole.shape, whole.dtype):
        return False
    if not whole.is_floating_point():
        return torch.equal(split, whole)
    slack = 0.0
    if whole.device.type != "cpu":
        slack = torch.finfo(whole.dtype).eps ** 0.5 * whole.nan_to_num().abs().max().item()
    return torch.allclose(split, whole, rtol=0, atol=slack, equal_nan=True)


def _gradients(backbone: nn.Module, sample: Any, run: Run) -> dict[str, Tensor | None] | None:
    """Gradients of a randomly weighted mean of the logits, in train mode; None where there are none."""
    parameters = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    try:
        with torch.enable_grad():
            logits = run(True, sample)
        if not logits.requires_grad:
            return dict.fromkeys(parameters)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        grads = torch.autograd.grad(logits, [*parameters.values()], weights, allow_unused=True)
    except Exception:  # whatever there is that cannot be trained, in a user's forward too
        return None
    return dict(zip(parameters, grads, strict=True))


def _other_gradients(
    whole: Mapping[str, Tensor | None], split: Mapping[str, Tensor | None] | None
) -> Iterator[str]:
    """Say which gradients are not equal, up to the order in which their terms are added."""
    if split is None:
        yield "cannot be trained split, but whole"
        return
    sizes = {name: 0.0 if g is None else _norm(g) for name, g in whole.items()}
    for name, theirs in whole.items():
        ours = split[name]
        if ours is None or theirs is None:
            if ours is not theirs:
                some, none = ("whole", "split") if ours is None else ("split", "whole")
                yield f"gives '{name}' a gradient {some}, and none {none}"
            continue
        eps = torch.finfo(theirs.dtype).eps
        if _norm(ours - theirs) > max(eps**0.5 * sizes[name], 32 * eps * max(sizes.values())):
            yield f"gives '{name}' another gradient split than whole"


def _norm(gradient: Tensor) -> float:
    return float(gradient.to_dense().nan_to_num().norm().item())
