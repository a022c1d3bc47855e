"""The Tensors of a feature, which may be a tuple, a NamedTuple, a list or a dict of several scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

__all__ = ["scales_of", "with_scales"]


def scales_of(feature: Any) -> tuple[Any, ...]:
    """What a feature holds, in its order; of one that is no collection, itself."""
    if isinstance(feature, Tensor):
        return (feature,)
    if isinstance(feature, Mapping):
        return tuple(feature.values())
    return tuple(feature) if isinstance(feature, (tuple, list)) else (feature,)


def with_scales(feature: Any, scales: Sequence[Any]) -> Any:
    """A feature of the same kind that holds other Tensors.

    Args:
        feature: The model.
        scales: As many as it holds.
    """
    if isinstance(feature, Mapping):
        return type(feature)(zip(feature, scales, strict=True))  # type: ignore[call-arg]
    if isinstance(feature, (tuple, list)):
        make = getattr(type(feature), "_make", type(feature))  # of a NamedTuple
        return make(scales)
    return scales[0]
