"""Soft targets: distillation compares an output's tempered probabilities with its teacher's.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015: p^T = softmax(z / T).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from offramp.errors import UserError, shown
from offramp.tasks.classification import Classification
from offramp.tasks.task import Task, wide

__all__ = ["check_soft_targets", "divergence", "soft_loss", "soft_targets"]


def soft_targets(teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """The teacher's probabilities at a temperature, without gradient.

    Args:
        teacher: Logits ``[N, classes]``.
        temperature: Above 0; above 1 flattens.

    Returns:
        ``[N, classes]``, rows that sum to 1.
    """
    return F.softmax(wide(teacher.detach()) / temperature, dim=1)


def soft_loss(student: Tensor, targets: Tensor, temperature: float | Tensor) -> Tensor:
    """Cross-entropy of each sample's tempered probabilities with soft targets: -sum_c q_c log p^T_c.

    Its gradient is that of the Kullback-Leibler divergence of p^T from q: the two differ by the entropy of q.

    Args:
        student: Logits ``[N, classes]``, which give p^T.
        targets: q, probabilities ``[N, classes]``.
        temperature: T.

    Returns:
        ``[N]``.
    """
    return F.cross_entropy(wide(student) / temperature, targets, reduction="none")


def divergence(student: Tensor, targets: Tensor, temperature: float | Tensor, reduction: str) -> Tensor:
    """Kullback-Leibler divergence of each sample's tempered probabilities p^T from soft targets q.

    Args:
        student: Logits ``[N, classes]``, which give p^T.
        targets: q, probabilities ``[N, classes]``.
        temperature: T.
        reduction: ``"batchmean"``: summed over the classes; ``"mean"``: averaged over them, as PyTorch's
            KLDivLoss does by default.

    Returns:
        ``[N]``.
    """
    logs = F.log_softmax(wide(student) / temperature, dim=1)
    terms = F.kl_div(logs, targets, reduction="none")
    return terms.sum(1) if reduction == "batchmean" else terms.mean(1)


def check_soft_targets(tasks: Iterable[Task], purpose: str = "distillation compares") -> None:
    """Check that every output tells the same classes apart, so that one can teach another.

    Args:
        tasks: The task of each output.
        purpose: What needs it: the beginning of the message, before "the class probabilities".

    Raises:
        UserError: An output has another task.
    """
    first, *others = tasks
    for task in (first, *others):
        if not isinstance(task, Classification):
            odd = f"one has the task {type(task).__name__}"
        elif task.target != first.target:
            odd = f"these classify different targets, {shown(first.target)} and {shown(task.target)}"
        else:
            continue
        raise UserError(
            f"{purpose} the class probabilities of all outputs, and {odd}; take another method, e.g. joint"
        )
