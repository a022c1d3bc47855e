"""`calibrate`: held-out samples, and what a policy shall keep to, become a policy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from offramp.checks import count_of, described, flag, is_number, word_of
from offramp.counting import CONVENTIONS
from offramp.data.batches import BatchTransform
from offramp.errors import UserError, shown
from offramp.exits.calibration.amounts import operations, seconds
from offramp.exits.calibration.chosen import check_untouched
from offramp.exits.calibration.reading import Reader
from offramp.exits.calibration.recording import provenance, record
from offramp.exits.calibration.to_cost import Rule, to_budget, to_budget_and_latency, to_latency
from offramp.exits.calibration.to_risk import Loss, costs_if_known, to_risk
from offramp.exits.confidence import CONFIDENCES
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
    delta: float | None = 0.05,
    confidence: str = "max-softmax",
    temperatures: bool | None = None,
    per_class: bool = False,
    rule: Rule = "best",
    loss: Loss = "wrong",
    batch_size: int = 1,
    transform: BatchTransform | None = None,
    convention: str | None = None,
) -> Policy:
    """Fit a policy on held-out samples, to a budget, a latency or both, or to a risk.

    With a budget or a latency, thresholds make as many of the samples right as can be at that mean cost. From
    the cost of the static network on, the backbone without inner heads, nobody leaves early. With both, they
    keep to both: ``budget="80%", latency="100%"`` saves operations, and by the times of the net's parts no
    time is lost for it. A risk is promised for new samples like these; where they are too few for the
    promise, nobody leaves early, and a line says so.

    Args:
        net: The trained net; or a run, which brings its validation split and its normalisation.
        data: Labelled samples that the net was not trained on: batches, each a pair (inputs, labels), a
            :class:`~offramp.data.Batch` or a dict of named inputs with labels, e.g. a DataLoader; one pair
            (inputs, labels) of all of them; a split of a set, with its ``transform``; or recorded
            :class:`~offramp.exits.ExitLogits`. None: the run's validation split.
        budget: Operations per sample, on average: a number, ``"170M"``, ``"1.2G"``, or a share of the static
            network, ``"50%"``.
        latency: Time per sample, on average, of this machine as it is now: ``"3ms"``, ``"200us"``, or a share
            of the static network's, ``"50%"``. Exits whose heads take more time than they save are left out.
            With a budget beside it, those that take more of the tighter of both limits.
        risk: What may be lost by leaving early, between 0 and 1; see ``loss``.
        delta: The risk is kept with probability ``1 - delta`` over the draw of the samples (learn then test);
            None: in expectation (conformal risk control).
        confidence: A key of :data:`~offramp.exits.CONFIDENCES`.
        temperatures: Whether a temperature of each exit is fitted; None: for a risk, whose exits share one
            threshold.
        per_class: Whether each predicted class has thresholds of its own. They need many samples of each
            class.
        rule: How thresholds are found for a budget: ``"best"``; ``"published"``, the algorithm of MSDNet
            (:mod:`offramp.exits.calibration.published`) at the point of its curve next below the budget; or
            ``"precision"``, the lowest thresholds at which a given share is right of those that leave, exit
            after exit on the samples that come to it, at the share next below the budget. With ``per_class``
            this is CalexNet's.
        loss: What the risk is of: ``"wrong"``, the probability that the full network is right and the answer
            is wrong; ``"brier"``, half of what the answer's Brier score is above the full network's.
        batch_size: Samples in a batch, by which the latency is measured.
        transform: Normalises the images of a split; None: as the run's were.
        convention: How operations are counted; None: as the net's are.

    Returns:
        The policy. Its ``calibration`` says on what it was fitted, for what, and what that gave.

    Raises:
        UserError: No target, a risk and another, or one that cannot be reached; data that are test data, or
            do not fit; for a risk, validation samples that may have chosen the learning rate.
    """
    targets = {"budget": budget, "latency": latency, "risk": risk}
    given = _targets(targets)
    _check(given, {
        **targets, "delta": delta, "confidence": confidence, "temperatures": temperatures,
        "per_class": per_class, "rule": rule, "loss": loss, "batch_size": batch_size,
        "convention": convention,
    })  # fmt: skip
    if transform is not None and not callable(transform):
        raise UserError(f"transform is {described(transform)}, must be what normalises a batch")
    run = net if isinstance(net, Run) else None
    model: Any = run.net if run else net
    recorded = record(model, data, run=run, transform=transform)
    reader = Reader(confidence, temperatures=risk is not None if temperatures is None else temperatures)
    if risk is not None:
        check_untouched(recorded, run)
        known = costs_if_known(model, convention)
        policy = to_risk(recorded, reader, known, risk=risk, delta=delta, loss=loss)
    elif budget is None:
        policy = to_latency(recorded, reader, model, latency, batch_size=batch_size, per_class=per_class)
    elif latency is None:
        costs = PathCosts(model, convention)
        policy = to_budget(recorded, reader, costs, budget, rule=rule, per_class=per_class)
    else:
        costs = PathCosts(model, convention)
        policy = to_budget_and_latency(
            recorded, reader, model, costs, budget, latency,
            rule=rule, batch_size=batch_size, per_class=per_class,
        )  # fmt: skip
    return replace(policy, net=recorded.net, calibration=provenance(recorded) | {**policy.calibration})


def _targets(targets: Mapping[str, object]) -> list[str]:
    """The targets that are given: one, or a budget and a latency."""
    given = [name for name, value in targets.items() if value is not None]
    if not given:
        raise UserError("a policy is fitted for a budget, a latency, both, or a risk, got none; give one")
    if "risk" in given and len(given) > 1:
        raise UserError(
            f"a risk is no target beside others, got {' and '.join(given)}; give the risk or the others"
        )
    return given


OPTIONS: dict[str, tuple[str, ...]] = {  # the targets that an option is for
    "rule": ("budget",),
    "per_class": ("budget", "latency"),
    "batch_size": ("latency",),
    "loss": ("risk",),
    "delta": ("risk",),
    "convention": ("budget", "risk"),
}


def _check(targets: Sequence[str], given: Mapping[str, Any]) -> None:
    """Check all that can be wrong before the net runs."""
    for name, meant_for in OPTIONS.items():
        default = inspect.signature(calibrate).parameters[name].default
        if not {*meant_for} & {*targets} and given[name] is not default and given[name] != default:
            raise UserError(f"{name} is for {' or '.join(meant_for)}, not for {targets[0]}; leave it out")
    for name, choices in (("rule", ("best", "published", "precision")), ("loss", ("wrong", "brier"))):
        word_of(name, given[name], choices, name)
    flag("per_class", given["per_class"])
    if given["temperatures"] is not None:
        flag("temperatures", given["temperatures"])
    if given["convention"] is not None:
        word_of("convention", given["convention"], CONVENTIONS, "counting convention")
    if given["budget"] is not None:  # a mistake shall not wait until the net has run
        operations(given["budget"], 1.0)
    if given["latency"] is not None:
        seconds(given["latency"], 1.0)
    word_of("confidence", given["confidence"], CONFIDENCES, "confidence")
    if given["rule"] == "published" and given["per_class"]:
        raise UserError("the published thresholds are one for each exit; leave out rule or per_class")
    for name, other in (("risk", ""), ("delta", ", or None for a risk in expectation")):
        value = given[name]
        if value is not None and not (is_number(value) and 0 < value < 1):
            raise UserError(f"{name} is {shown(value)}, must be a number above 0 and below 1{other}")
    count_of("batch_size", given["batch_size"])
