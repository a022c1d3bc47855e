"""Makes compiled nets safe under several backward passes."""

from __future__ import annotations

import sys

import torch._functorch.config
import torch.compiler.config

__all__ = ["keep_graphs"]


def keep_graphs() -> None:
    """Have what is compiled from now on survive several backward passes, in this whole process.

    Otherwise a compiled backward pass may overwrite what the forward pass saved ("donated buffers"), and the
    second one is wrong in silence: neither the cache on disk nor the one in memory tells the kinds apart.
    """
    if torch._functorch.config.donated_buffer:
        torch._functorch.config.donated_buffer = False
        torch.compiler.config.cache_key_tag += "graphs are kept"
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # forget what was compiled for one pass
