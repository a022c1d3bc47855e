"""Reentrant checkpoints are named where torch takes no gradients through them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from offramp.errors import UserError

__all__ = ["reentrant_named"]


@contextmanager
def reentrant_named() -> Iterator[None]:
    """Context manager for ``torch.autograd.grad``, which reentrant checkpoints in the net do not take.

    Raises:
        UserError: A part of the net is checkpointed with ``use_reentrant=True``.
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
