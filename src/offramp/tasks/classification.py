"""Classification: one class for every sample, by cross-entropy, measured as top-1 and top-5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.checks import is_number, number
from offramp.errors import UserError, shown
from offramp.tasks.task import Task, percent, wide

__all__ = ["NO_LABEL", "Classification"]

NO_LABEL = -100  # torch's own ignore_index


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Single-label classification: cross-entropy loss, top-1 and top-5 accuracy.

    Outputs are logits ``[N, classes]``. Targets are class indices ``[N]``, where -100 stands for a sample
    without a label, or the classes' probabilities ``[N, classes]``, as mixed images have them. ``top5``
    is over all classes where there are fewer than five. Of probabilities the most likely class is the right
    one.

    Attributes:
        target: Key of the class indices among a batch's targets.
        label_smoothing: Mass of the target that is spread over all classes.
        class_weights: How much the samples of each class count; by default 1 each. A sample of a class of
            weight 0 does not count at all, its share of smoothed labels included.

    Raises:
        UserError: A value out of its range.
    """

    primary = "top1"
    better = "higher"
    target: str = "label"
    label_smoothing: float = 0.0
    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "label_smoothing", "from 0 to below 1", lambda v: 0 <= v < 1)
        if self.class_weights is None:
            return
        given = self.class_weights
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            raise UserError(f"class_weights are one number per class, e.g. [1, 1, 2], got {shown(given)}")
        weights = tuple(given.tolist() if isinstance(given, Tensor) else given)
        if not all(is_number(w) and w >= 0 for w in weights) or not any(weights):
            raise UserError(
                f"class_weights are a factor of 0 or more per class, not all 0, e.g. [1, 1, 2], got "
                f"{shown(weights)}"
            )
        object.__setattr__(self, "class_weights", weights)

    def loss(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        logits = wide(output)
        weight = None if self.class_weights is None else _weights(self.class_weights, logits)
        target = self._checked(target, logits)
        try:
            values = F.cross_entropy(
                logits,
                target,
                weight,
                label_smoothing=self.label_smoothing,
                reduction="none",
                ignore_index=NO_LABEL,
            )
        except IndexError as error:  # on a CPU; a GPU ends the process
            classes = logits.shape[-1]
            raise UserError(
                f"a label is out of range ({error}); give classes from 0 to {classes - 1}, which the output "
                f"has, and {NO_LABEL} for a sample without a label"
            ) from None
        if target.is_floating_point():
            weights = target.new_ones(len(target)) if weight is None else target.to(weight) @ weight
        else:
            weights = target != NO_LABEL
            if weight is not None:
                weights = weights * weight[target.clamp(min=0)]
        if weight is not None:  # torch's values are weighted already
            values = torch.where(weights > 0, values / torch.where(weights > 0, weights, 1), 0)
        return values, weights

    def _checked(self, target: Tensor, logits: Tensor) -> Tensor:
        """The target in torch's own dtype, if it is one of such logits."""
        expected = logits.shape if target.is_floating_point() else logits.shape[:1]
        if target.shape != expected:
            raise UserError(
                f"{shown(self.target)} is {target.dtype} {[*target.shape]} for outputs {[*logits.shape]}; "
                f"give one class index for each sample, int64 {[*logits.shape[:1]]}, or the classes' "
                "probabilities"
            )
        return target if target.is_floating_point() else target.long()

    def example_target(self, output: Tensor) -> Tensor:
        """Class 0 for every sample."""
        return torch.zeros(len(output), dtype=torch.int64, device=output.device)

    def counts(self, output: Tensor, target: Tensor) -> Tensor:
        """``[3]``: top-1 hits, top-5 hits, samples with a label."""
        if target.is_floating_point():
            target = target.argmax(-1)
        best = wide(output).topk(min(5, output.shape[-1]), dim=-1).indices
        hits = best == target[:, None]
        return torch.stack([hits[:, 0].sum(), hits.any(-1).sum(), (target != NO_LABEL).sum()])

    def metrics(self, counts: Tensor) -> dict[str, float]:
        """``top1`` and ``top5`` in percent."""
        top1, top5, samples = counts.tolist()
        return {"top1": percent(top1, samples), "top5": percent(top5, samples)}


@cache
def _weights_on(weights: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(weights, dtype=dtype, device=device)


def _weights(weights: Sequence[float], logits: Tensor) -> Tensor:
    if len(weights) != logits.shape[-1]:
        raise UserError(f"class_weights are {len(weights)}, classes {logits.shape[-1]}; give one per class")
    return _weights_on(tuple(weights), logits.dtype, logits.device)
