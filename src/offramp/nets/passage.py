"""One pass through a multi-exit net that keeps what lies on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from offramp.errors import UserError
from offramp.forks.feature import ordinary

if TYPE_CHECKING:
    from offramp.nets.multi_exit import MultiExitNet

__all__ = ["Passage", "last_linear", "passage"]


class Passage(NamedTuple):
    """What a pass leaves behind, all of it in the graph.

    Attributes:
        outputs: Logits of every exit: K tensors ``[N, classes]``.
        features: What each head's last linear layer reads, ``[N, D_k]``; None where the head ends in no such
            layer.
        trunk: What every stage but the last hands to its fork.
    """

    outputs: list[Tensor]
    features: list[Tensor | None]
    trunk: list[Any]


def passage(net: MultiExitNet, x: Any) -> Passage:
    """The forward pass of a net, with what lies on the way; its outputs are those of ``net(x)``."""
    found = Passage([], [], [])
    for k, (stage, head) in enumerate(zip(net.stages, net.heads, strict=True)):
        x = to_head = stage(x)
        if k < len(net.forks):
            if isinstance(x, tuple):  # what is only carried along gets its own place in the graph here
                x = tuple(tensor.view_as(tensor) for tensor in x)
            found.trunk.append(x)
            to_head, x = net.forks[k](x)
        feature = None
        if _linear(head) is not None:
            *body, last = head if isinstance(head, nn.Sequential) else [head]
            for layer in body:
                to_head = layer(to_head)
            feature = ordinary(to_head)  # to be watched by whoever keeps it; the last layer reads the cut
            found.outputs.append(last(to_head))
        else:
            found.outputs.append(head(to_head))
        found.features.append(feature)
    return found


def last_linear(net: MultiExitNet, exit: int) -> nn.Linear:
    """The layer that turns an exit's feature into its logits.

    Args:
        net: The net.
        exit: From 1.

    Raises:
        UserError: The head does not end in a linear layer.
    """
    head = net.heads[exit - 1]
    layer = _linear(head)
    if layer is None:
        raise UserError(
            f"head {exit} ({type(head).__name__}) has no feature to read; "
            "make it an nn.Sequential that ends in nn.Linear"
        )
    return layer


def _linear(head: nn.Module) -> nn.Linear | None:
    last = head[-1] if isinstance(head, nn.Sequential) and len(head) else head
    return last if isinstance(last, nn.Linear) else None
