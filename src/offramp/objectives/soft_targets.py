"""What distillation compares: an exit's tempered probabilities with those of its teacher.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015: p^T = softmax(z / T).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["soft_cross_entropy", "soft_targets", "wide"]


def wide(tensor: Tensor) -> Tensor:
    """The Tensor in float32, or as it is where that is wider."""
    return tensor.float() if tensor.itemsize < 4 else tensor


def soft_targets(teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """The teacher's probabilities at a temperature, without gradient.

    Args:
        teacher: Logits ``[N, classes]``.
        temperature: Above 0; above 1 flattens.

    Returns:
        ``[N, classes]``, rows that sum to 1.
    """
    return F.softmax(wide(teacher.detach()) / temperature, dim=1)


def soft_cross_entropy(student: Tensor, targets: Tensor, temperature: float | Tensor) -> Tensor:
    """The batch mean of -sum_c q_c log p^T_c.

    Its gradient is that of the Kullback-Leibler divergence of p^T from q: the two differ by the entropy of q.

    Args:
        student: Logits ``[N, classes]``, which give p^T.
        targets: q, probabilities ``[N, classes]``.
        temperature: T.
    """
    return F.cross_entropy(wide(student) / temperature, targets)
