"""A head cut before its last layer, so that another classifier can read the same feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from offramp.errors import UserError
from offramp.nets._last_linear import opened
from offramp.nets.exits import reads_previous

__all__ = ["HeadParts", "ReplacingHead", "head_parts"]


@dataclass(frozen=True)
class HeadParts:
    """What makes the feature of a head, and the layer that makes logits of it.

    Attributes:
        body: What the stage returns -> feature ``[N, D]``.
        linear: Feature -> logits ``[N, classes]``.
    """

    body: nn.Module
    linear: nn.Linear

    @property
    def width(self) -> int:
        """Length of the feature (D)."""
        return self.linear.in_features

    @property
    def classes(self) -> int:
        """How many logits."""
        return self.linear.out_features

    @property
    def like(self) -> dict[str, Any]:
        """Device and dtype, as layers take them."""
        return {"device": self.linear.weight.device, "dtype": self.linear.weight.dtype}


class ReplacingHead(nn.Module):
    """A head with a classifier of another kind, on the body of the head in whose place it stands.

    Args:
        parts: That head's.
    """

    reads_previous = True
    linear: nn.Linear

    def __init__(self, parts: HeadParts) -> None:
        super().__init__()
        self.body, self.width = parts.body, parts.width

    @property
    def parts(self) -> HeadParts:
        """Those of a head that could stand in its place again; the layer that makes logits is a new one."""
        weight = self.linear.weight
        linear = nn.Linear(self.width, len(weight), device=weight.device, dtype=weight.dtype)
        return HeadParts(self.body, linear)


def head_parts(heads: Sequence[nn.Module] | nn.ModuleList, method: str) -> list[HeadParts]:
    """Cut heads before their last layers; the modules are the heads' own.

    Args:
        heads: Some heads of a net, from the first on.
        method: What messages call the method that wants them.

    Raises:
        UserError: One does not end in a linear layer, or reads the logits of another.
    """
    found = []
    for number, head in enumerate(heads, start=1):
        if isinstance(head, ReplacingHead):
            found.append(head.parts)
            continue
        layers = None if reads_previous(head) else opened(head)
        if layers is None or layers[2]:
            raise UserError(
                f"{method} puts another classifier in place of the last layer of head {number}, and "
                f"{type(head).__name__} does not end in one; give a head that is an nn.Linear, or an "
                "nn.Sequential that ends in one"
            )
        found.append(HeadParts(nn.Sequential(*layers[0]), layers[1]))
    return found
