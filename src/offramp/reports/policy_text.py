"""A policy in words: where samples leave, what that was fitted for, and what it gives."""

from __future__ import annotations

from typing import Any

from offramp.exits import Policy
from offramp.exits.calibration.published import NOBODY
from offramp.exits.evaluation import PolicyResult
from offramp.text_table import aligned, count

__all__ = ["policy_document", "policy_text", "result_document", "result_text"]


def policy_document(policy: Policy) -> dict[str, Any]:
    """What a policy says, as plain values.

    Returns:
        ``confidence``; ``exits``, of each exit its ``threshold`` (a number, one for each class, or None),
        whether it is ``evaluated``, its ``temperature`` and the ``share`` of the calibration samples that
        leaves there; and ``calibration``, as in the policy's file.
    """
    achieved = policy.calibration.get("achieved", {})
    shares = achieved.get("exits", [None] * policy.num_exits)
    columns = zip((*policy.thresholds, None), policy.temperatures, shares, strict=True)
    exits = [
        {
            "threshold": threshold,
            "evaluated": exit in policy.evaluated,
            "temperature": temperature,
            "share": share,
        }
        for exit, (threshold, temperature, share) in enumerate(columns, 1)
    ]
    return {"confidence": policy.confidence, "exits": exits, "calibration": {**policy.calibration}}


def policy_text(policy: Policy) -> str:
    """A row for each exit, then what the policy was fitted on and for, and what is to be expected of it."""
    rows = []
    for exit, each in enumerate(policy_document(policy)["exits"], 1):
        threshold, share = each["threshold"], each["share"]
        shown = "all leave" if exit == policy.num_exits else "not evaluated"
        if isinstance(threshold, tuple):
            ends = [*dict.fromkeys(map(_shown, (min(threshold), max(threshold))))]
            shown = f"{' to '.join(ends)} by class"
        elif threshold is not None:
            shown = _shown(threshold)
        rows.append(
            [str(exit), shown, f"{each['temperature']:.3g}", "" if share is None else f"{100 * share:.1f}"]
        )
    table = aligned(["exit", policy.confidence, "temperature", "leave there %"], rows)
    return "\n".join([table, "", *_words(policy.calibration)])


def result_document(result: PolicyResult) -> dict[str, Any]:
    """What a policy reaches on test samples, as plain values."""
    return {
        "data": result.data,
        "top1": result.top1,
        "flops": result.flops,
        "static_flops": result.static_flops,
        "convention": result.convention,
        "exits": [
            {"share": share, "top1": top1}
            for share, top1 in zip(result.shares, result.exit_top1, strict=True)
        ],
    }


def result_text(result: PolicyResult) -> str:
    """A row for each exit, then the accuracy and the mean cost of all samples."""
    rows = [
        [str(exit), f"{100 * share:.1f}", "" if top1 is None else f"{top1:.2f}"]
        for exit, (share, top1) in enumerate(zip(result.shares, result.exit_top1, strict=True), 1)
    ]
    rows.append(["all", "100.0", f"{result.top1:.2f}"])
    table = aligned(["exit", "leave there %", "top-1 %"], rows)
    return f"{table}\n\n{_operations(result)}"


def _operations(result: PolicyResult) -> str:
    if result.static_flops is None:
        return "FLOPs are not told: some of the net's operations are unknown"
    static = f"the static network: {count(result.static_flops)}"
    if result.flops is None:
        return f"FLOPs differ with the size of a sample, and are not counted; {static} for the net's example"
    return f"{count(result.flops)} FLOPs a sample as the router executes them ({result.convention}); {static}"


def _shown(threshold: float) -> str:
    if abs(threshold) >= NOBODY:
        return "none leaves" if threshold > 0 else "all leave"
    return f"{threshold:.4g}"


def _words(calibration: Any) -> list[str]:
    """Lines on samples, target and outcome."""
    target, achieved = calibration.get("target", {}), calibration.get("achieved", {})
    if not target:
        return ["not calibrated"]
    samples = f"{calibration['samples']} samples"
    if "data" in calibration:
        samples = f"{calibration['samples']} {calibration['split']} samples of {calibration['data']}"
    lines = [f"fitted on {samples} for {_target(target)}"]
    if "full" in calibration:
        lines.append(f"no sample leaves early: {calibration['full']}")
    on = f"the {achieved['tested_on']} of them that tested it" if "tested_on" in achieved else "these"
    lines.append(
        f"on {on}: {100 * achieved['accuracy']:.2f} % right{_cost(achieved, target)}; "
        f"the full network {100 * achieved['full_accuracy']:.2f} %"
    )
    if "risk" in achieved:
        bound = (
            f", at most {achieved['bound']:.4g} with probability {1 - target['delta']:g}"
            if "bound" in achieved
            else ""
        )
        lines.append(f"risk on them: {achieved['risk']:.4g}{bound}")
    return lines


def _target(target: dict[str, Any]) -> str:
    budget, latency = "", ""
    if "latency" in target:
        latency = (
            f"{_ms(target['latency'])} in batches of {target['batch_size']}, where the static network takes "
            f"{_ms(target['static'])}"
        )
    if "budget" in target:
        rule = f"{target['rule']} thresholds"
        if "precision" in target:
            rule += f", {100 * target['precision']:g} % of those that leave right"
        budget = f"{count(target['budget'])} FLOPs ({target['convention']}), {rule}"
    if budget or latency:
        return f"a mean of {'; and of '.join(filter(None, (budget, latency)))}"
    promise = "in expectation" if target["delta"] is None else f"with probability {1 - target['delta']:g}"
    return f"a risk ({target['loss']}) of at most {target['risk']:g} {promise}"


def _cost(achieved: dict[str, Any], target: dict[str, Any]) -> str:
    """What a sample takes, as far as it is known."""
    if "cost" not in achieved:
        return ""
    if "latency" in target and "budget" not in target:
        return f", {_ms(achieved['cost'])} a sample"
    time = f" and {_ms(achieved['seconds'])}" if "seconds" in achieved else ""
    return f", {count(achieved['cost'])} FLOPs{time} a sample"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms"
