"""`calibrate`: held-out samples, and what a policy shall keep to, become a policy."""

from __future__ import annotations

from typing import Any, Literal

from offramp.data.batches import BatchTransform
from offramp.errors import UserError
from offramp.exits.calibration.amounts import operations
from offramp.exits.calibration.published import POINTS, published
from offramp.exits.calibration.recording import record
from offramp.exits.decisions import decide
from offramp.exits.path_costs import PathCosts
from offramp.exits.policy import Policy
from offramp.nets import MultiExitNet
from offramp.runs import Run

__all__ = ["calibrate"]


def calibrate(
    net: MultiExitNet | Run,
    data: Any = None,
    *,
    budget: str | float | None = None,
    latency: str | None = None,
    risk: float | None = None,
    delta: float = 0.05,
    confidence: str = "max-softmax",
    rule: Literal["best", "published"] = "best",
    transform: BatchTransform | None = None,
    convention: str | None = None,
) -> Policy:
    """Fit a policy on held-out samples, for exactly one of three targets.

    Args:
        net: The trained net; or a run, which brings its validation split and its normalisation.
        data: Labelled samples that the net was not trained on: batches, each a pair (inputs, labels), a
            :class:`~offramp.data.Batch` or a dict of named inputs with labels, e.g. a DataLoader; one pair
            (inputs, labels) of all of them; a split of a set, with its ``transform``; or recorded
            :class:`~offramp.exits.ExitLogits`. None: the run's validation split.
        budget: Operations per sample, on average: a number, ``"170M"``, ``"1.2G"``, or a share of the static
            network, ``"50%"``.
        latency: Time per sample, on average: ``"3ms"``, ``"200us"``, or a share of the static network's.
        risk: A probability that shall not be exceeded, with confidence ``1 - delta``.
        delta: See ``risk``.
        confidence: A key of :data:`~offramp.exits.CONFIDENCES`.
        rule: How thresholds are found for a budget: ``"best"``, those of the highest accuracy on the samples;
            or ``"published"`` (:mod:`offramp.exits.calibration.published`).
        transform: Normalises the images of a split.
        convention: How operations are counted; by default the net's own.

    Raises:
        UserError: Not exactly one target, one that cannot be reached, or samples that do not fit.
    """
    targets = {"budget": budget, "latency": latency, "risk": risk}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) != 1:
        have = " and ".join(given) or "none"
        raise UserError(f"a policy is fitted for one of budget, latency and risk, got {have}; give one")
    run = net if isinstance(net, Run) else None
    model: Any = run.net if run else net
    recorded = record(model, data, run=run, transform=transform)
    costs = PathCosts(model, convention)
    allowed = operations(budget, costs.static)
    reading = Policy((None,) * (model.num_exits - 1), confidence, net=recorded.net)
    found = [published(recorded, reading, p / 20) for p in POINTS]
    means = [decide(recorded, policy, costs).mean_cost or 0 for policy in found]
    return max(
        (mean, k, policy)
        for k, (mean, policy) in enumerate(zip(means, found, strict=True))
        if mean <= allowed
    )[2]
