"""Whether the samples of a batch stay apart, in the first axis, up to every exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.errors import UserError
from offramp.nets.attaching._interface import STAGES
from offramp.nets.attaching._parts import Parts
from offramp.nets.exits import Part, exits
from offramp.unchanged import unchanged

__all__ = ["check_apart", "check_batch_first"]


def check_batch_first(parts: Parts, samples: Sequence[Any], *, own: bool) -> None:
    """Whether each exit's feature, and the logits of the last, have the batch in their first axis.

    Args:
        parts: The backbone, which is left as it was.
        samples: Inputs for it, with different numbers of samples.
        own: Whether the stages are the user's own.

    Raises:
        UserError: One has not.
    """
    sizes = [len(next(leaf for leaf in pytree.tree_leaves(s) if isinstance(leaf, Tensor))) for s in samples]
    ran = zip(*(_shapes(parts, sample) for sample in samples), strict=True)
    for exit, shapes in enumerate(ran, start=1):
        if [shape[0] for shape in shapes] == sizes:
            continue
        are = " and ".join(f"{[*shape]} for {n} samples" for shape, n in zip(shapes, sizes, strict=True))
        if exit == len(parts.stages):
            raise UserError(
                f"the backbone's logits are {are}, and their first axis is not the batch; take inputs that "
                "have the batch first, or wrap the backbone in a module that moves it there"
            )
        remedy = f"permute it at the end of stage {exit} and back at the start of the next"
        if not own:
            remedy = f"build the backbone with batch_first=True where it can, or {STAGES}, and {remedy}"
        raise UserError(f"the feature of exit {exit} is {are}, and its first axis is not the batch; {remedy}")


def _shapes(parts: Parts, x: Any) -> list[torch.Size]:
    """Shapes of what the heads read."""
    shapes = []
    with unchanged(*parts.stages, parts.end), torch.no_grad():
        for module in (*parts.stages, parts.end):
            module.eval()
        for stage, carry in zip(parts.stages, parts.carry, strict=False):  # the last one has no carry
            x = stage(x)
            shapes.append((x[-1] if carry else x).shape)
        shapes.append(parts.end(parts.stages[-1](x)).shape)
    return shapes


def check_apart(stages: Sequence[nn.Module], heads: Sequence[nn.Module], sample: Any) -> None:
    """Whether no exit's logits of a sample depend on another sample of its batch, in eval mode.

    It is seen where gradients flow: from the logits to the input, or, where that is no floats, to the first
    feature.

    Args:
        stages: The stages, which are left as they were.
        heads: The heads.
        sample: Two samples or more.

    Raises:
        UserError: Those of an exit do.
    """
    try:
        exit = _mixed(stages, heads, sample)
    except Exception:  # whatever there is without gradients, in a user's forward too
        return
    if exit is not None:
        raise UserError(
            f"the logits of exit {exit} for a sample depend on the other samples of its batch, in eval mode "
            "too; build attention and recurrent layers with batch_first=True, norm layers with "
            "track_running_stats=True"
        )


def _mixed(stages: Sequence[nn.Module], heads: Sequence[nn.Module], sample: Any) -> int | None:
    """The first exit whose logits of the first or the last sample have gradients at others."""
    leaves: list[Tensor] = []

    def watched(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1].clone()  # which may be written to

    def call(part: Part, module: nn.Module, *inputs: Any) -> Any:
        output = module(*inputs)
        if leaves or part != "stage":
            return output
        return (*output[:-1], watched(output[-1])) if isinstance(output, tuple) else watched(output)

    # cudnn has gradients of recurrent layers in train mode alone
    with unchanged(*stages, *heads), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        for module in (*stages, *heads):
            module.eval()
        x = pytree.tree_map_only(Tensor, watched, sample)
        for exit in exits(stages, [], heads, x, call):
            for index, others in ((0, slice(1, None)), (-1, slice(-1))):  # time runs one way in some layers
                logits = exit.logits[index]
                weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
                gradients = torch.autograd.grad(logits, leaves, weights, retain_graph=True, allow_unused=True)
                if any(g is not None and g[others].nan_to_num().any() for g in gradients):
                    return exit.number
    return None
