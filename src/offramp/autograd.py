"""Base class of autograd functions: torch's own, whose ``apply`` has types here; and a refusal of graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from offramp.errors import UserError

__all__ = ["Function", "of_some_alone"]

if TYPE_CHECKING:

    class Function(torch.autograd.Function):
        """Autograd function with a ``forward`` and a ``backward`` of its own."""

        @classmethod
        def apply(cls, *args: Any, **kwargs: Any) -> Any:
            """Run ``forward``, and ``backward`` when a gradient arrives."""

else:
    Function = torch.autograd.Function


@contextmanager
def of_some_alone() -> Iterator[None]:
    """Context manager for ``torch.autograd.grad`` in the graph of a net of the user's.

    Raises:
        UserError: A part of the net is checkpointed in a way that has only ``backward()``.
    """
    try:
        yield
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        raise UserError(
            "a part of the net runs under torch.utils.checkpoint with use_reentrant=True, which gives no "
            "gradients of some weights alone, and these are needed here; give it use_reentrant=False"
        ) from error
