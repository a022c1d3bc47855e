"""Multi-label classification: any number of labels for every sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.tasks._numbers import known_numbers, mean_of_known
from offramp.tasks.task import Task, percent

__all__ = ["MultiLabel"]


@dataclass(frozen=True, kw_only=True)
class MultiLabel(Task):
    """Any number of L labels for every sample: binary cross-entropy, measured by F1 at probability 1/2.

    Outputs are logits ``[N, L]``, targets ``[N, L]`` are 1 where a sample has the label, 0 where not, and not
    a number where nobody knows. The loss of a step is the mean over all known entries of its batch, as
    :class:`torch.nn.BCEWithLogitsLoss` has it.

    The metrics add up exactly over batches, which mean average precision does not; in percent: ``f1``, the
    mean over the labels of 2 TP / (2 TP + FP + FN), leaving out one that neither occurs nor is predicted;
    ``micro_f1``, the same of all entries together; ``accuracy``, the share of known entries that are right.

    Attributes:
        target: Key of the labels among a batch's targets.
    """

    primary = "f1"
    better = "higher"
    target: str = "labels"

    def loss(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        logits, labels, known = self._read(output, target)
        terms = F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="none")
        return mean_of_known(terms, known)

    def counts(self, output: Tensor, target: Tensor) -> Tensor:
        """``[4 L]``: true positives, false positives, false negatives, true negatives of each label."""
        logits, labels, known = self._read(output, target)
        said, right = logits > 0, labels > 0.5
        cases = (said & right, said & ~right, ~said & right, ~said & ~right)
        return torch.stack([(case & known).sum(0) for case in cases]).flatten()

    def metrics(self, counts: Tensor) -> dict[str, float]:
        """``f1``, ``micro_f1`` and ``accuracy`` in percent."""
        each = counts.view(4, -1).double()
        tp, fp, fn, tn = each
        total = each.sum(1)
        both, wrong = 2 * float(total[0]), float(total[1] + total[2])
        return {
            "f1": 100 * float((2 * tp / (2 * tp + fp + fn)).nanmean()),  # 0 / 0: not there
            "micro_f1": percent(both, both + wrong),
            "accuracy": percent(float((tp + tn).sum()), float(total.sum())),
        }

    def _read(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return known_numbers(self.target, output, target, "0 or 1 for each label (not a number: unknown)")
