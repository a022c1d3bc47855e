"""The fingerprint of a net: a short digest of its weights, whatever device they are on."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

__all__ = ["fingerprint"]


def fingerprint(net: nn.Module) -> str:
    """Digest the names and values of a net's parameters and buffers: 16 hexadecimal digits.

    Floats are rounded to bfloat16 first, so that a net cast to it is the net it was. Memory format and device
    do not matter.
    """
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        value = tensor.detach()
        value = value.to(torch.bfloat16).view(torch.int16) if value.is_floating_point() else value
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
