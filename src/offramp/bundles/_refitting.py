"""A net in 8 bits: quantised on training samples, its policy fitted anew on what its exits say then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from onnxruntime import InferenceSession
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.bundles._int8 import quantized
from offramp.bundles._joined import JoinedNet, ModelInput
from offramp.bundles._parts import NetPart
from offramp.errors import UserError
from offramp.exits import ExitLogits, Policy, calibrate
from offramp.exits.calibration.recording import record
from offramp.nets import MultiExitNet
from offramp.runs import Run

__all__ = ["Refitted", "refitted"]

RANGES = 512  # training samples whose activations tell the ranges


class Refitted(NamedTuple):
    """A net in 8 bits.

    Attributes:
        parts: Its stages.
        policy: Fitted on its logits.
        figures: Of the validation samples, by exit: the share of right answers in floats and in 8 bits, and
            the share whose prediction is the same, in percent.
    """

    parts: list[NetPart]
    policy: Policy
    figures: Mapping[str, Any]


def refitted(run: Run, parts: Sequence[NetPart], policy: Policy) -> Refitted:
    """Quantise the net of a run, and fit a policy anew to what one was fitted to.

    Args:
        run: The run, whose training samples tell the ranges of activations, and whose validation samples the
            thresholds.
        parts: The stages of its net.
        policy: The policy of the net in floats.

    Raises:
        UserError: It is not known what the policy was fitted to, or that was a latency of torch.
    """
    target = _target(policy)
    parts = quantized(parts, [*_first(run, RANGES)])
    in_floats, net = record(cast(MultiExitNet, run.net), None, run=run), NetOfParts(parts)
    logits = [net(arrays_of(batch.inputs)) for batch in run.batches("val")]
    in_int8 = replace(in_floats, logits=torch.cat(logits, 1))
    temperatures = None if "risk" in target else set(policy.temperatures) != {1.0}
    fitted = calibrate(run, in_int8, confidence=policy.confidence, temperatures=temperatures, **target)
    return Refitted(parts, fitted, _figures(in_floats, in_int8))


class NetOfParts:
    """The logits of all exits of a net in parts, by ONNX Runtime.

    Args:
        parts: Its stages.
    """

    def __init__(self, parts: Sequence[NetPart]) -> None:
        inputs = [ModelInput(value.name, value.dtype, value.shape[1:]) for value in parts[0].reads]
        model = JoinedNet(inputs, parts, Policy((1.0,) * (len(parts) - 1))).logits()
        self._names = [each.name for each in inputs]
        self._session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def __call__(self, arrays: Sequence[np.ndarray]) -> Tensor:
        """What the exits say of n samples: ``[K, n, classes]``."""
        found = self._session.run(None, dict(zip(self._names, arrays, strict=True)))
        return torch.from_numpy(np.stack(found))


def arrays_of(inputs: Any) -> list[np.ndarray]:
    """The Tensors of an input, in order."""
    return [leaf.cpu().numpy() for leaf in pytree.tree_leaves(inputs)]


def _first(run: Run, samples: int) -> Iterator[list[np.ndarray]]:
    """Batches of the first training samples, not augmented."""
    for batch in run.batches("train"):
        yield arrays_of(batch.first(samples).inputs)
        samples -= len(batch)
        if samples <= 0:
            return


def _figures(in_floats: ExitLogits, in_int8: ExitLogits) -> dict[str, Any]:
    floats, whole = (recorded.logits.argmax(-1) for recorded in (in_floats, in_int8))
    shares = {
        "top1_fp32": floats == in_floats.labels,
        "top1_int8": whole == in_floats.labels,
        "agreement": floats == whole,
    }
    percent = {name: [100 * each for each in hits.double().mean(1).tolist()] for name, hits in shares.items()}
    return {"samples": len(in_floats), **percent}


def _target(policy: Policy) -> dict[str, Any]:
    """The options of ``calibrate`` that ask for what a policy was fitted to."""
    target = policy.calibration.get("target", {})
    if "budget" in target and "latency" not in target:
        options = {"budget": target["budget"], "rule": target["rule"], "convention": target["convention"]}
        return {**options, "per_class": any(isinstance(each, tuple) for each in policy.thresholds)}
    if "risk" in target:
        return {"risk": target["risk"], "delta": target["delta"], "loss": target["loss"]}
    raise UserError(
        "thresholds are fitted anew to what a net in 8 bits says, and this policy was fitted to "
        f"{'a latency of torch' if 'latency' in target else 'nothing that it names'}; give one that was "
        "calibrated to a budget or a risk"
    )
