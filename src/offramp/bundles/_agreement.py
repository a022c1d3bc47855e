"""A bundle's graph against the net in torch, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from onnx import ModelProto
from onnxruntime import InferenceSession
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.bundles._joined import ModelInput
from offramp.errors import UserError, error_text
from offramp.exits import Policy
from offramp.exits.leaving import leaves, threshold_rows
from offramp.nets import MultiExitNet

__all__ = ["check_agreement", "samples_for"]

SAMPLES = 8
PROBABILITY = 1e-4  # by how much probabilities may differ
TROUBLE = "the exported net gives something else than the net in torch"
CONFIDENCE = 1e-5  # how near a threshold the two may decide differently


def check_agreement(
    policy: Policy, logits: Sequence[Tensor], feed: dict[str, np.ndarray], model: ModelProto
) -> None:
    """Run a graph on samples, by the policy's thresholds and by such that some leave at each exit.

    Args:
        policy: The policy.
        logits: What all K exits say of the samples, ``[n, classes]`` each.
        feed: The samples, as the graph reads them.
        model: The graph.

    Raises:
        UserError: ONNX Runtime refuses the graph, or it gives something else; or an exit gives no numbers.
    """
    readings = _readings(policy, logits)
    for exit, reading in zip(policy.evaluated, readings, strict=True):
        if np.isnan(reading.confidence).all():
            raise UserError(f"exit {exit} gives NaN whatever the net reads; look for NaN among its weights")
    medians = np.asarray([np.median(reading.confidence) for reading in readings[:-1]], np.float32)
    rows = threshold_rows({"thresholds": policy.thresholds})
    if rows.ndim > 1:
        medians = np.broadcast_to(medians[:, None], rows.shape)
    try:
        session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found = [session.run(None, {**feed, "thresholds": each}) for each in (rows, medians)]
    except Exception as error:  # of ONNX Runtime
        raise UserError(f"ONNX Runtime cannot run the exported net: {error_text(error)}") from error
    for thresholds, answers in zip((rows, medians), found, strict=True):
        _compare(policy, readings, thresholds, answers)


def samples_for(net: MultiExitNet, inputs: Sequence[ModelInput]) -> tuple[dict[str, np.ndarray], Any]:
    """Random samples, as a graph reads them and as the net in torch does."""
    draws = np.random.default_rng(0)
    if inputs[0].scale:
        (image,) = inputs
        levels = draws.integers(0, 256, (SAMPLES, *map(int, image.shape)), np.uint8)
        scale, shift = (
            torch.tensor(numbers, dtype=torch.float32)[:, None, None]
            for numbers in (image.scale, image.shift)
        )
        return {image.name: levels}, torch.from_numpy(levels).float() * scale + shift
    x = pytree.tree_map_only(Tensor, _as_exported, net.sample(SAMPLES))
    arrays = zip(inputs, pytree.tree_leaves(x), strict=True)
    return {each.name: array.numpy() for each, array in arrays}, x


def _as_exported(x: Tensor) -> Tensor:
    """A Tensor on the device and in the precision of what is exported."""
    return x.cpu().float() if x.is_floating_point() else x.cpu()


class _Reading(NamedTuple):
    """What torch says of all samples at an exit, as arrays."""

    probabilities: np.ndarray
    confidence: np.ndarray


@torch.no_grad()
def _readings(policy: Policy, logits: Sequence[Tensor]) -> list[_Reading]:
    """All samples at each evaluated exit, as if none left before."""
    rule, state, found = policy.rule, None, []
    for exit in policy.evaluated:
        divided = logits[exit - 1] / policy.temperatures[exit - 1]
        reading = rule.read(exit, divided, state)
        state = reading.state
        probabilities = rule.probabilities(exit, divided, state)
        found.append(_Reading(probabilities.numpy(), reading.confidence.numpy()))
    return found


def _compare(
    policy: Policy, readings: Sequence[_Reading], thresholds: np.ndarray, found: Sequence[np.ndarray]
) -> None:
    here = np.ones(len(found[0]), bool)
    near = ~here  # to a threshold on the way
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
            pair = probabilities[sample], reading.probabilities[sample]
            if not np.allclose(*pair, rtol=0, atol=PROBABILITY, equal_nan=True):
                far = abs(pair[0] - pair[1]).max()
                raise UserError(f"{TROUBLE}: probabilities at exit {exit} differ by {far:.2g}")
        here &= ~gone
