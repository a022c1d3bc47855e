"""Weights whose gradients are no plain Tensors of real numbers, named before anything is trained."""

from __future__ import annotations

from torch import nn

from offramp.errors import UserError, shown

__all__ = ["check_dense", "check_real"]


def check_dense(net: nn.Module) -> None:
    """Check that no embedding that is trained has sparse gradients.

    Raises:
        UserError: One has.
    """
    for name, layer in net.named_modules():
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) and layer.sparse and layer.weight.requires_grad:
            raise UserError(
                f"the gradient of {shown(name)} is sparse, and momentum, weight decay, Adam and what "
                "compares gradients take none such; build the embedding with sparse=False"
            )


def check_real(net: nn.Module) -> None:
    """Check that no parameter that is trained is complex.

    Raises:
        UserError: One is.
    """
    for name, parameter in net.named_parameters():
        if parameter.is_complex() and parameter.requires_grad:
            raise UserError(
                f"{shown(name)} is complex, and gradients are compared as real numbers; keep it as a real "
                "parameter [..., 2] and read it through torch.view_as_complex, or take a method that goes "
                "backward once, e.g. joint or dfs"
            )
