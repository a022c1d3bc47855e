"""A deterministic fill of parameters that knows only the kind and shape of a tensor, never its name.

Two implementations of one network so become one function, whatever they call their layers, and their
gradients can be compared as sorted lists per kind and shape.

The tensor ``<kind>:<shape>``, e.g. ``Conv2d.weight:(64, 3, 3, 3)``, takes standard normal numbers z from a
generator seeded by the CRC-32 of that text, scaled as :func:`filled` says. What a module of one's own
holds beside its layers, as an SDN head its pooling share, is of the kind ``other``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

KINDS = {"Conv2d": nn.Conv2d, "BatchNorm2d": nn.BatchNorm2d, "Linear": nn.Linear}

# Name of a parameter -> (shape of the full tensor, the slice of its dim 1 that the net holds).
Slices = Mapping[str, tuple[tuple[int, ...], slice]]


class Slot(NamedTuple):
    """A parameter or buffer, perhaps a slice of a larger one that the reference holds in full."""

    key: str
    tensor: Tensor
    shape: tuple[int, ...]
    part: slice

    def whole(self, values: Tensor | None) -> Tensor | None:
        """Values of the slice, among zeros."""
        if values is None or tuple(values.shape) == self.shape:
            return values
        full = values.new_zeros(self.shape)
        full[:, self.part] = values
        return full


def normal(text: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float64 numbers, seeded by the CRC-32 of a text."""
    generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def filled(key: str, shape: tuple[int, ...]) -> Tensor:
    """The value of the tensor with that key."""
    kind = key.split(":")[0]
    if kind == "other":
        return torch.full(shape, 0.3, dtype=torch.float64)
    layer, name = kind.split(".")
    z = normal(key, shape)
    if name == "running_var":
        return 1 + 0.2 * z.abs()
    if name != "weight":
        return 0.1 * z
    if layer == "BatchNorm2d":
        return 1 + 0.1 * z
    return z / math.sqrt(math.prod(shape[1:]))  # by the fan-in


def slots(net: nn.Module, slices: Slices | None = None, *, buffers: bool = False) -> Iterator[Slot]:
    """All parameters, or all BatchNorm statistics."""
    for module_name, module in net.named_modules():
        kind = next((name for name, cls in KINDS.items() if isinstance(module, cls)), None)
        own = module.named_buffers(recurse=False) if buffers else module.named_parameters(recurse=False)
        for name, tensor in own:
            if name == "num_batches_tracked":
                continue
            whole = (tuple(tensor.shape), slice(None))
            shape, part = (slices or {}).get(f"{module_name}.{name}", whole)
            key = "other" if kind is None else f"{kind}.{name}"
            yield Slot(f"{key}:{shape}", tensor, shape, part)


@torch.no_grad()
def fill(net: nn.Module, slices: Slices | None = None) -> None:
    """Fill every parameter and BatchNorm statistic of a net, in place."""
    for slot in (*slots(net, slices), *slots(net, buffers=True)):
        value = filled(slot.key, slot.shape)
        slot.tensor.copy_(value if slot.part == slice(None) else value[:, slot.part])
