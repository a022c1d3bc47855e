"""A bundle's graph against the net in torch, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.bundles._joined import ModelInput
from offramp.copying import deep_copy
from offramp.errors import UserError, error_text
from offramp.exits import Policy
from offramp.exits.leaving import leaves, threshold_rows
from offramp.nets import MultiExitNet

__all__ = ["check_agreement"]

SAMPLES = 8
PROBABILITY = 1e-4  # by how much probabilities may differ
TROUBLE = "the exported net gives something else than the net in torch"
CONFIDENCE = 1e-5  # how near a threshold the two may decide differently


def check_agreement(
    net: MultiExitNet, policy: Policy, inputs: Sequence[ModelInput], model: ModelProto
) -> None:
    """Run the graph on random samples, by the policy's thresholds and by such that some leave at each exit.

    Args:
        net: The net.
        policy: The policy.
        inputs: What the graph reads.
        model: The graph.

    Raises:
        UserError: ONNX Runtime refuses the graph, or gives something else than torch.
    """
    from onnxruntime import InferenceSession

    net = deep_copy(net).to("cpu", torch.float32).eval()
    feed, x = _samples(net, inputs)
    readings = _readings(net, policy, x)
    medians = np.asarray([np.median(reading.confidence) for reading in readings[:-1]], np.float32)
    rows = threshold_rows({"thresholds": policy.thresholds})
    try:
        session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for thresholds in (
            rows,
            medians if rows.ndim == 1 else np.broadcast_to(medians[:, None], rows.shape),
        ):
            found = session.run(None, {**feed, "thresholds": thresholds})
            _compare(policy, readings, thresholds, found)
    except UserError:
        raise
    except Exception as error:  # of ONNX Runtime
        raise UserError(f"ONNX Runtime cannot run the exported net: {error_text(error)}") from error


class _Reading(NamedTuple):
    """What torch says of all samples at an exit, as arrays."""

    probabilities: np.ndarray
    confidence: np.ndarray


def _samples(net: MultiExitNet, inputs: Sequence[ModelInput]) -> tuple[dict[str, np.ndarray], Any]:
    """Random samples, as the graph reads them and as torch does."""
    draws = np.random.default_rng(0)
    if inputs[0].scale:
        (image,) = inputs
        levels = draws.integers(0, 256, (SAMPLES, *map(int, image.shape)), np.uint8)
        scale, shift = (torch.tensor(numbers)[:, None, None] for numbers in (image.scale, image.shift))
        return {image.name: levels}, torch.from_numpy(levels).float() * scale + shift
    x = net.sample(SAMPLES)
    arrays = [leaf.numpy() for leaf in pytree.tree_leaves(x)]
    return {each.name: array for each, array in zip(inputs, arrays, strict=True)}, x


@torch.no_grad()
def _readings(net: MultiExitNet, policy: Policy, x: Any) -> list[_Reading]:
    """All samples at each evaluated exit, as if none left before."""
    logits, rule, state = net(x), policy.rule, None
    found = []
    for exit in policy.evaluated:
        divided: Tensor = logits[exit - 1] / policy.temperatures[exit - 1]
        reading = rule.read(exit, divided, state)
        state = reading.state
        probabilities = rule.probabilities(exit, divided, state)
        found.append(_Reading(probabilities.numpy(), reading.confidence.numpy()))
    return found


def _compare(
    policy: Policy, readings: Sequence[_Reading], thresholds: np.ndarray, found: Sequence[np.ndarray]
) -> None:
    here = np.ones(SAMPLES, bool)
    near = np.zeros(SAMPLES, bool)  # to a threshold on the way
    for place, (exit, reading) in enumerate(zip(policy.evaluated, readings, strict=True)):
        gone = here
        if place < len(thresholds):
            prediction = reading.probabilities.argmax(1)
            threshold = thresholds[place][prediction] if thresholds.ndim > 1 else thresholds[place]
            gone = here & leaves(reading.confidence, prediction, thresholds[place])
            near |= here & (abs(reading.confidence - threshold) <= CONFIDENCE)
        probabilities, exits, _ = found
        for sample in np.flatnonzero(gone & ~near):
            if exits[sample] != exit:
                raise UserError(
                    f"{TROUBLE}: a sample leaves at exit {exits[sample]}, in torch at exit {exit}"
                )
            far = abs(probabilities[sample] - reading.probabilities[sample]).max()
            if not far <= PROBABILITY:
                raise UserError(f"{TROUBLE}: probabilities at exit {exit} differ by {far:.2g}")
        here &= ~gone
