"""Steps of a multi-exit net: one task, classification, for every output."""

from __future__ import annotations

from offramp.data import Batch
from offramp.methods.objectives import Step
from offramp.tasks import Classification


def exit_step(net, outputs, labels, *, label_smoothing=0.0, **rest):
    """A step whose outputs are logits, all for the class indices ``labels``."""
    task = Classification(label_smoothing=label_smoothing)
    return Step(net, outputs, [task] * len(outputs), {"label": labels}, **rest)


def exit_batch(inputs, labels):
    """A batch of inputs with class indices."""
    return Batch(inputs, {"label": labels})
