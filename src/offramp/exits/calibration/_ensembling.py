"""The weights of an ensemble of the exits so far, fitted on held-out samples."""

from __future__ import annotations

import torch
from torch import Tensor

from offramp.exits.confidence import Ensemble
from offramp.exits.exit_logits import ExitLogits
from offramp.tasks import Classification

__all__ = ["fit_ensemble"]

RIDGE = 1e-4  # keeps the fit finite where every prediction is right
STEPS = 200  # of L-BFGS, at most


def fit_ensemble(recorded: ExitLogits, temperatures: tuple[float, ...]) -> Ensemble:
    """Fit the weights of Zero Time Waste (Wołczyk et al., NeurIPS 2021, Eq 2).

    For each exit k, w_kj and log b_k minimise the cross-entropy of log b_k + sum over j <= k of w_kj log p_j,
    a convex problem, plus a small ridge around the plain geometric mean (w_kj = 1/k, b_k = 1).

    Args:
        recorded: The samples.
        temperatures: Of the exits.
    """
    scale = torch.tensor(temperatures, dtype=torch.float64)[:, None, None]
    logs = (recorded.logits.double() / scale).log_softmax(-1)
    weights, biases = [], []
    for k in range(1, recorded.num_exits + 1):
        w, b = _fit(logs[:k], recorded.labels)
        weights.append((*w.tolist(), *[0.0] * (recorded.num_exits - k)))
        biases.append(tuple(b.tolist()))
    return Ensemble(tuple(weights), tuple(biases))


def _fit(logs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[k]`` and log-biases ``[classes]`` for log-probabilities ``[k, N, classes]``."""
    exits, _, classes = logs.shape
    mean = 1 / exits
    weights = torch.full((exits,), mean, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias],
        max_iter=STEPS,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        joint = torch.einsum("k,knc->nc", weights, logs) + bias
        value = Classification().loss(joint, labels)[0].mean()
        value = value + RIDGE * ((weights - mean).square().sum() + bias.square().sum())
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return weights.detach(), bias.detach()
