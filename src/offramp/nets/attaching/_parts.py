"""The parts of a backbone that was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.errors import UserError

__all__ = ["Parts", "feature_of", "one_tensor"]


@dataclass(frozen=True)
class Parts:
    """A backbone cut into stages.

    Args:
        stages: The stages, one more than there are cuts.
        outputs: What a head reads at each cut.
        carry: For each cut, whether the feature is a tuple that carries other Tensors too.
        end: The last head.
    """

    stages: Sequence[nn.Module]
    outputs: Sequence[Tensor]
    carry: Sequence[bool]
    end: nn.Module


def one_tensor(output: object) -> object:
    """The Tensor in a tuple, list or dict that holds one and no other; anything else as it is.

    Blocks of transformers return ``(hidden_states,)``, or that and None.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    return tensors[0] if len(tensors) == 1 else output


def feature_of(name: str, output: object) -> Tensor:
    """Check that a head can read what a module or stage returned, and return it.

    Raises:
        UserError: It is no Tensor of floats, or has no channels.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"{name} returns a {kind}, not a float Tensor; cut after one that does")
    if output.ndim < 2:
        raise UserError(
            f"{name} returns shape {[*output.shape]}, which has no channels; "
            "cut after one that returns [N, C], [N, C, H, W], [N, T, C] or the like"
        )
    return output
