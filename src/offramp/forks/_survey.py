"""Run a network once to get the features that cross its forks; the network is left as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.forks.forked_net import ForkedNet
from offramp.forks.scales import scales_of, with_scales
from offramp.unchanged import unchanged

__all__ = ["features_of"]


def features_of(net: ForkedNet) -> list[tuple[Tensor, ...]]:
    """The feature that each fork hands out, for a batch of two in evaluation mode.

    Args:
        net: A net with plain forks.

    Raises:
        UserError: A stage or head fails, a stage returns anything but Tensors, or a head or stage overwrites
            the feature that it reads.
    """
    features: list[tuple[Tensor, ...]] = []
    stage = head = 0

    def call(part: str, module: nn.Module, *inputs: Any) -> Any:
        nonlocal stage, head
        if part == "fork":
            features.append(scales_of(inputs[0]))
            return module(*inputs)
        if part == "head":
            head += 1
            return _read(module, f"head {head}", *inputs)
        stage += 1
        feature = _read(module, f"stage {stage}", *inputs)
        if not all(isinstance(t, Tensor) for t in scales_of(feature)):
            raise UserError(
                f"stage {stage} returns neither a Tensor nor a tuple, list or dict of Tensors; "
                "a feature must be one of them"
            )
        return feature

    like = next(net.parameters(), torch.zeros(()))
    with unchanged(net), torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        net.eval()
        net.walk(net.sample(2), call)
    return features


def _read(reader: nn.Module, name: str, feature: Any, *previous: Any) -> Any:
    """Run a stage or head on a copy of its feature and refuse one that overwrites it, but for stage 1.

    Args:
        reader: A stage or head.
        name: What messages call it.
        feature: What it reads.
        previous: The logits of the exit before, for a head that reads them too.
    """
    is_input = name == "stage 1"
    copies = [] if is_input else [t.clone() for t in scales_of(feature)]
    versions = [t._version for t in copies]
    try:
        result = reader(feature if is_input else with_scales(feature, copies), *previous)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{name} fails on a sample of the input ({reason}); set net.input_size, or net.example"
        ) from None
    if [t._version for t in copies] != versions:
        raise UserError(
            f"{name} overwrites the feature that it reads, and another reader needs it too; "
            "make its first operation work out of place (inplace=False, or x = x + y in place of x += y)"
        )
    return result
