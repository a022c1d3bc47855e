"""What is said when a training runs out of memory."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from offramp.methods import Method
from offramp.out_of_memory import bytes_in_words, out_of_memory_told, peak_memory, samples_in_words
from offramp.recipes import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["StepMemory", "memory_told"]


class StepMemory:
    """Knows what the steps took so far, for the line that says that one ran out of memory.

    Args:
        recipe: Batch size, micro-batches and precision.
        method: Whether it can do with micro-batches.
        fabric: Device and processes.
    """

    def __init__(self, recipe: Recipe, method: Method, fabric: Fabric) -> None:
        self.recipe, self.method, self.device = recipe, method, fabric.device
        self.share = recipe.batch_size // (1 if method.loop.staged else fabric.world_size)
        # samples at a time in the last step, and bytes taken
        self.fitted: tuple[int, int | None] | None = None

    def samples(self, micro_batches: int) -> int:
        """How many samples a process has in memory at a time, of a batch in so many parts."""
        return -(-self.share // micro_batches)

    def see(self, micro_batches: int) -> None:
        """Note that a step fitted into memory."""
        self.fitted = self.samples(micro_batches), peak_memory(self.device)

    def told(self, where: str, samples: int, last_checkpoint: object = None) -> str:
        """What to say when memory runs out.

        Args:
            where: In what, e.g. ``"a training step"``.
            samples: How many were to be in memory at a time.
            last_checkpoint: Where a run can go on from, if there is one.
        """
        recipe = self.recipe
        kept = f"; the last checkpoint, {last_checkpoint}, stands" if last_checkpoint else ""
        return (
            f"out of memory in {where} on {self.device.type} with {samples_in_words(samples)} at a time "
            f"(batch_size={recipe.batch_size}, accumulate={recipe.accumulate}, "
            f"precision={recipe.precision}); {self._before()}; {_remedies(recipe, self.method)}{kept}"
        )

    def _before(self) -> str:
        if self.fitted is None:
            return "no step has fitted yet"
        samples, taken = self.fitted
        whose = "" if self.device.type == "cuda" else " for the whole process"
        took = "" if taken is None else f" and took {bytes_in_words(taken)}{whose}"
        return f"the last that fitted had {samples_in_words(samples)}{took}"


def _remedies(recipe: Recipe, method: Method) -> str:
    """Settings that take less memory than the recipe's, none of which is refused in turn."""
    settings = []
    if recipe.batch_size > 2:
        settings.append(f"`batch_size={recipe.batch_size // 2}`")
    if recipe.accumulate != "auto" and not method.whole_batch:
        settings.append("`accumulate='auto'`")
    if recipe.precision == "fp32":
        settings.append("`precision='bf16'`")
    return f"take {', '.join([*settings, 'a smaller net or a device with more memory'])}"


def memory_told(recipe: Recipe, method: Method) -> AbstractContextManager[None]:
    """Turn memory that runs out before or after the training steps into one line for the user."""
    return out_of_memory_told(
        lambda: (
            f"out of memory before or after a training step (batch_size={recipe.batch_size}, "
            f"precision={recipe.precision}); {_remedies(recipe, method)}"
        )
    )
