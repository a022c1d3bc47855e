"""Base class of the library's autograd functions: torch's own, whose ``apply`` has types here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

__all__ = ["Function"]

if TYPE_CHECKING:

    class Function(torch.autograd.Function):
        """Autograd function with a ``forward`` and a ``backward`` of its own."""

        @classmethod
        def apply(cls, *args: Any, **kwargs: Any) -> Any:
            """Run ``forward``, and ``backward`` when a gradient arrives."""

else:
    Function = torch.autograd.Function
