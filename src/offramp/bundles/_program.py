"""The net as a program of ``torch.export``: neither code of its own nor a pickle."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from torch.utils import _pytree as pytree

from offramp.bundles._parts import OfOneSize, Value, free_axes
from offramp.bundles._quiet import quiet
from offramp.copying import deep_copy
from offramp.errors import UserError, error_text
from offramp.nets import MultiExitNet

__all__ = ["PROGRAM", "program"]

PROGRAM = "program.pt2"


def program(net: MultiExitNet, reads: Sequence[Value]) -> bytes:
    """A file that ``torch.export.load`` opens: the whole net, which gives the logits of all its exits.

    Args:
        net: The net, which stays as it is.
        reads: What it reads; free axes stay free.

    Raises:
        UserError: Torch cannot trace it.
    """
    net = deep_copy(net).to("cpu", torch.float32).eval()
    leaves, form = pytree.tree_flatten(net.sample(3))
    example, free = (pytree.tree_unflatten(each, form) for each in (leaves, free_axes(reads)))
    try:
        with quiet(), torch.no_grad():
            found = torch.export.export(
                OfOneSize(net, reads), (example,), dynamic_shapes=((free,),), strict=False
            )
            found.example_inputs = None  # which would be kept as a pickle
            file = io.BytesIO()
            torch.export.save(found, file)
    except Exception as error:  # of torch.export, or of the net
        raise UserError(
            f"the net cannot be exported by torch.export: {error_text(error)}; write it with x.shape[0] "
            "in place of len(x), and no Python branches on values"
        ) from error
    return file.getvalue()
