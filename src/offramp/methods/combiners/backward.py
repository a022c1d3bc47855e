"""The backward pass that combiners use, whatever the precision and the number of processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Backward"]


@dataclass(frozen=True)
class Backward:
    """A backward pass, with the loss scale and the mean over processes for combiners that bypass it.

    Attributes:
        run: Adds a scalar's gradient to ``.grad``: scales the loss under fp16, averages over processes.
        scale: What ``run`` multiplies the loss by. Whoever writes ``.grad`` multiplies by it too.
        average: Turns a Tensor into its mean over the processes, in place; None if there is only one.
    """

    run: Callable[[Tensor], None] = Tensor.backward
    scale: float = 1.0
    average: Callable[[Tensor], None] | None = None

    def __call__(self, loss: Tensor) -> None:
        """Add the gradient of a scalar to ``.grad``."""
        self.run(loss)
