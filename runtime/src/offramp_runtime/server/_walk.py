"""One sample's way through the exits, as the page shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from offramp_runtime import Model, SampleAnswer
from offramp_runtime.server._asked import Asked

__all__ = ["told", "walk"]

TOP = 3


def told(model: Model, answer: SampleAnswer) -> dict[str, Any]:
    """An answer as JSON has it."""
    return {
        "prediction": int(answer.prediction),
        "class": model.classes[answer.prediction],
        "exit": int(answer.exit),
        "confidence": float(answer.confidence),
        "cost": answer.cost,
    }


def walk(model: Model, asked: Asked) -> dict[str, Any]:
    """Run a sample exit by exit, up to the one that it leaves at.

    Returns:
        The answer, and ``walk``: what each exit on the way says, with the threshold for that and the
        likeliest classes; ``exits``: all exits and their costs.

    Raises:
        HTTPException: 400, the request has a limit that a walk does not know.
        InputError: Not a sample of this model.
    """
    if asked.budget is not None or asked.timeout is not None:
        raise HTTPException(400, "a walk has no budget and no timeout; leave them out")
    steps = [
        {**told(model, answer), "threshold": threshold, "top": _top(model, answer.probabilities)}
        for answer, threshold in model.walk(asked.sample, threshold=asked.threshold)
    ]
    last = {key: value for key, value in steps[-1].items() if key not in ("threshold", "top")}
    return {**last, "walk": steps, "exits": [{"exit": each.exit, "cost": each.cost} for each in model.exits]}


def _top(model: Model, probabilities: np.ndarray) -> list[dict[str, Any]]:
    likeliest = np.argsort(-probabilities, kind="stable")[:TOP]
    return [{"class": model.classes[k], "probability": float(probabilities[k])} for k in likeliest]
