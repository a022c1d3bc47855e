"""One pass through a multi-exit net that keeps what lies on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.forks.scales import scales_of, with_scales
from offramp.nets.last_linear import Read, Watch, opened
from offramp.unchanged import unchanged

if TYPE_CHECKING:
    from offramp.nets.multi_exit import MultiExitNet

__all__ = ["Passage", "last_linear", "passage"]


class Passage(NamedTuple):
    """What a pass leaves behind, all of it in the graph.

    Attributes:
        outputs: Logits of every exit: K tensors ``[N, classes]``.
        features: What each head's last linear layer reads, ``[N, D_k]``, whatever functions follow it; of
            several tokens, the one that the logits are made of. None where no linear layer makes the logits.
        trunk: What every stage but the last hands to its fork.
    """

    outputs: list[Tensor]
    features: list[Tensor | None]
    trunk: list[Any]


def passage(net: MultiExitNet, x: Any) -> Passage:
    """The forward pass of a net, with what lies on the way; its outputs are those of ``net(x)``."""
    return _pass(net, x)[0]


def last_linear(net: MultiExitNet, exit: int) -> nn.Linear:
    """The layer that turns an exit's feature into its logits.

    Args:
        net: The net, which is run once to see, unless it is plain, and left as it was.
        exit: From 1.

    Raises:
        UserError: No linear layer does.
    """
    head = net.heads[exit - 1]
    parts = opened(head)
    if parts is not None and not parts[2]:
        return parts[1]
    for mode in (True, False):  # dropout may hide in training which token it is that became the logits
        with unchanged(net), torch.no_grad():
            found, reads = _pass(net.train(mode), net.sample(4))
        if found.features[exit - 1] is None:
            raise UserError(
                f"head {exit} ({type(head).__name__}) has no feature to compare with those of other exits: "
                "no nn.Linear makes its logits; "
                "end it in one, or take a method that reads logits alone, such as kd"
            )
    read = reads[exit - 1]
    assert read is not None  # it has the feature
    return read.layer


def _pass(net: MultiExitNet, x: Any) -> tuple[Passage, list[Read | None]]:
    """What a pass leaves behind, and for each exit the call of the linear layer that makes its logits."""
    found, reads = Passage([], [], []), []
    for k, (stage, head) in enumerate(zip(net.stages, net.heads, strict=True)):
        if k < len(net.forks):
            x = stage(x)
            if not isinstance(x, Tensor):  # what is only carried along gets its own place in the graph here
                x = with_scales(x, [tensor.view_as(tensor) for tensor in scales_of(x)])
            found.trunk.append(x)
            to_head, x = net.forks[k](x)
            logits, read = _run([head], to_head)
        elif any(True for _ in head.parameters()):
            logits, read = _run([head], stage(x))
        else:  # the end of a backbone, whose last linear layer may stand in the stage
            logits, read = _run([stage, head], x)
        found.outputs.append(logits)
        found.features.append(None if read is None else read.feature(logits))
        reads.append(read)
    return found, reads


def _run(parts: Sequence[nn.Module], x: Any) -> tuple[Tensor, Read | None]:
    """The logits that parts in a row make, and the call of the linear layer that made them."""
    layers = opened(parts[0]) if len(parts) == 1 else None
    if layers is not None:  # without hooks, which break the graphs of torch.compile
        before, linear, after = layers
        for layer in before:
            x = layer(x)
        logits = output = linear(x)
        for layer in after:
            logits = layer(logits)
        return logits, Read(linear, x, output)
    with Watch(parts) as watch:
        for part in parts:
            x = part(x)
    return x, watch.found()
